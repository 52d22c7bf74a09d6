"""Whether a file is gzip, by what is in it: a name may say the wrong thing."""

from pathlib import Path
from typing import Final

__all__ = ["is_gzip"]

# RFC 1952. No text begins so: 0x8b alone is no UTF-8.
_MAGIC: Final = b"\x1f\x8b"


def is_gzip(path: Path) -> bool:
    """
    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC
