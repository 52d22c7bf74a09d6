"""Who may ask, by token: a file with one `caller: secret` a line, read again when it changes.

Only SHA-256 digests are kept in memory, and the file may hold them in place of the secrets. Secrets
are random and long, so a plain hash is enough: there is nothing to guess from a dictionary.
"""

import hashlib
import hmac
import re
from pathlib import Path
from typing import Final

from neuralrank.errors import InvalidSettings, Unauthenticated
from sidecar.access.watch import FileWatch
from sidecar.deadline import Clock

__all__ = ["Tokens"]

_CALLER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")
_SHORTEST: Final = 16
_HOW: Final = (
    "Send it as gRPC metadata or HTTP header `authorization: Bearer <token>`; the sidecar's owner "
    "has it."
)


class Tokens:
    """The tokens of a file. A caller may have several, so that a new one can be given out before
    the old one is taken away."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """
        Raises:
            InvalidSettings: the file can't be read or a line is no token; the message names it.
        """
        self._path = path
        self._watch = FileWatch("tokens", [path], clock)
        self._digests = read_tokens(path)

    def caller(self, authorization: str) -> str:
        """The caller whose token it is.

        Args:
            authorization: the value of the `authorization` header, "Bearer …"; "" where there was
                none.

        Raises:
            Unauthenticated: no token, or none of the file's.
        """
        self._digests = self._watch.renewed(lambda: read_tokens(self._path)) or self._digests
        scheme, _, token = authorization.partition(" ")
        if not authorization or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated(f"A token is needed, and none was sent. {_HOW}")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = ""
        # All of them, whichever matches: the time tells nothing about which ones there are.
        for digest, caller in self._digests:
            if hmac.compare_digest(digest, given):
                found = caller
        if not found:
            raise Unauthenticated(f"This token is not one of those that are allowed. {_HOW}")
        return found


def read_tokens(path: Path) -> tuple[tuple[bytes, str], ...]:
    """Digest and caller of every line.

    Raises:
        InvalidSettings: as `Tokens`. A secret is in no message.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"The tokens in {path} can't be read ({type(error).__name__}). Name a readable UTF-8 "
            "file in NEURALRANK_SIDECAR_TOKENS, or leave it empty for none."
        ) from error
    found: dict[bytes, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        caller, colon, secret = (part.strip() for part in line.partition(":"))
        problem = _problem(caller, colon, secret)
        digest = _digest(secret)
        if not problem and found.get(digest, caller) != caller:
            problem = "the secret is another caller's too"
        if problem:
            raise InvalidSettings(
                f"{path}, line {number}: {problem}. A line is `caller: secret`, with a caller of "
                "letters, digits, '.', '_' and '-' and a secret of at least "
                f"{_SHORTEST} characters, or its hash as sha256:<64 hexadecimal digits>."
            )
        found[digest] = caller
    if not found:
        raise InvalidSettings(
            f"{path} holds no token, so nobody could ask. Add a line `caller: secret`, or leave "
            "NEURALRANK_SIDECAR_TOKENS empty for no tokens at all."
        )
    return tuple(found.items())


def _problem(caller: str, colon: str, secret: str) -> str:
    if not colon:
        return "there is no ':'"
    if not _CALLER.fullmatch(caller):
        # It may be the secret, of who wrote them the other way round.
        return "what is before the ':' is no caller"
    if len(secret) < _SHORTEST:
        return f"the secret has {len(secret)} characters"
    if not _SENDABLE.fullmatch(secret):
        return "the secret has a blank, or a sign that is not of ASCII, which no header can carry"
    if secret.startswith("sha256:") and not _DIGEST.fullmatch(secret):
        return "the hash is no SHA-256 in lower-case hexadecimal"
    return ""


def _digest(secret: str) -> bytes:
    hashed = _DIGEST.fullmatch(secret)
    return bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(secret.encode()).digest()
