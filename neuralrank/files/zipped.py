"""Files that may be gzip, told by what is in them: a name may say the wrong thing."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Final, cast

from neuralrank.errors import InvalidInput, NotFound

__all__ = ["DAMAGED", "read", "read_lines", "unzipped"]

# RFC 1952. No text begins so: 0x8b alone is no UTF-8.
_MAGIC: Final = b"\x1f\x8b"
# What reading a gzip file raises that was cut short or written over.
DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile)


def unzipped(raw: BufferedReader) -> IO[bytes]:
    """What an open file holds, from its beginning. Closing `raw` is all that is to be closed.

    Raises:
        OSError: it can't be read; reading on raises `DAMAGED`, too.
    """
    zipped = raw.peek(len(_MAGIC)).startswith(_MAGIC)
    return cast("IO[bytes]", gzip.open(raw)) if zipped else raw


def read(path: Path) -> bytes:
    """
    Raises:
        NotFound: there is no such file.
        InvalidInput: it is damaged, or can't be read.
    """
    return b"".join(read_lines(path))


def read_lines(path: Path) -> Iterator[bytes]:
    """Its lines, with what ends them. Raises as `read`."""
    try:
        with path.open("rb") as raw:
            yield from unzipped(raw)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except DAMAGED as error:
        raise InvalidInput(f"{path} is a damaged gzip file ({error}). Get it anew.") from error
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror or error}.") from error
