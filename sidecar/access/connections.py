"""How many connections are kept open. Apart from what keeps them: the process sees to it before it
knows whether it will load HTTP at all."""

from typing import Final

__all__ = ["most_open", "most_open_in_all"]

# Connections over HTTP beyond those whose requests are answered: on them probes are.
_SPARE: Final = 100


def most_open(connections: int) -> int:
    """How many are kept over HTTP, where requests are answered on so many of them."""
    return 2 * connections + _SPARE


def most_open_in_all(connections: int) -> int:
    """Over gRPC, which keeps so many, and HTTP together. Each is an open file."""
    return connections + most_open(connections)
