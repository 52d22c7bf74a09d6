"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuralrank.errors import NeuralrankError, Unsupported

__all__ = ["exclusive"]


@contextmanager
def exclusive(file: Path, busy: NeuralrankError) -> Iterator[None]:
    """Holds a lock file while the block runs; it stays in its folder. A process that dies lets go.

    Raises:
        NeuralrankError: `busy`, where another process holds it.
        Unsupported: the folder can't be written to.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("w")
    except OSError as error:
        raise Unsupported(f"{file.parent} can't be written to: {error}.") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        yield
