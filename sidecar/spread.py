"""Deals users evenly by hash: the same user always gets the same."""

import hashlib

__all__ = ["number", "place"]


def number(*parts: str) -> int:
    """Evenly spread over 0 to 2**64 - 1, and always the same for the same parts."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def place(salt: str, key: str) -> float:
    """Where a key stands among all, in [0, 100), evenly spread and another for each salt."""
    return number(salt, key) / 2**64 * 100.0
