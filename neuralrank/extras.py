"""How optional dependencies are installed, said in one way by every message."""

__all__ = ["install"]


def install(extra: str) -> str:
    """The command that brings an extra, for the end of a message.

    From a checkout: no package index has neuralrank, and whoever takes the name there would be
    installed in its place.
    """
    return f"`pip install '.[{extra}]'` in a checkout of neuralrank"
