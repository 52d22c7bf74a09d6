"""A disk without room: how it is told from other errors, and what is said of it."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["naming", "no_room", "out_of_room"]

# No room at all, none for this user, none for so large a file.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What writes without Python's files (safetensors, SQLite, NumPy) says it in words only.
_WORDS: Final = re.compile(
    "|".join(
        [
            *(rf"\(os error {number}\)" for number in _FULL),
            # Of copies of whole folders: `shutil.Error` has a text for each file, and no number.
            *(rf"\[Errno {number}\]" for number in _FULL),
            "database or disk is full",
            r"\d+ requested and \d+ written",
        ]
    )
)


def out_of_room(error: BaseException) -> bool:
    """Whether something could not be written because a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return bool(_WORDS.search(str(error)))


def no_room(error: BaseException) -> str:
    """What to tell a person: what is full, what is kept, and what to do."""
    target = getattr(error, "filename2", None) or getattr(error, "filename", None)
    # SQLAlchemy says the whole statement after the first line.
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    where = f"for {target}" if target else "of one of the folders that this command writes to"
    return (
        f"No room on the disk {where} ({reason}). Nothing half-written was left in the place of "
        "what was there: earlier checkpoints and bundles, and what serves, are as they were. Make "
        "room (`df -h` shows which disk is full) and run the same command again: it goes on from "
        "what is kept."
    )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives errors of the block about room the path that they have to do with, where they name
    none: a write that fails does not know its file. Those of other libraries become an OSError."""
    try:
        yield
    except Exception as error:
        if not out_of_room(error):
            raise
        if not isinstance(error, OSError) or error.errno is None:
            raise OSError(errno.ENOSPC, str(error), str(path)) from error
        if error.filename is None:
            error.filename = str(path)
        raise
