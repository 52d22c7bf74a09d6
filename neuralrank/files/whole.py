"""Files and folders that are there whole or not at all."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from neuralrank.files.full_disk import naming

__all__ = ["whole_file", "whole_folder", "write_whole"]

# To take the place of a folder where others write it, too; each fails once for each other's.
_ATTEMPTS: Final = 32


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` when the block ends: a reader sees
    the old file or the new one, also after a crash. If the block fails, nothing changes.

    Raises:
        OSError: it can't be written, such as to a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # It ends as the file does: some writers look at that.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        with naming(path):
            yield unfinished
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `path` and all that is in it when the block
    ends: a reader that opens files finds the old or the new. If the block fails, or the folder
    can't take that place, nothing changes. Raises as `whole_file`.

    Args:
        keep: whether what has that place when the block ends does as well; then it stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        unfinished.mkdir()
        with naming(path):
            yield unfinished
        _swap(unfinished, path, keep)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file in one step; text as UTF-8. Raises as `whole_file`."""
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)


def _swap(temporary: Path, folder: Path, keep: Callable[[], bool]) -> None:
    """Puts a folder where another was, or leaves that. Of several writers, the last one wins."""
    old = folder.parent / f"{temporary.name}.old"
    for left in reversed(range(_ATTEMPTS)):
        if folder.exists():
            if keep():
                return
            # Another writer may have set it aside in the meantime.
            with suppress(FileNotFoundError):
                os.replace(folder, old)
        try:
            os.replace(temporary, folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and left:
                # Another writer was first; what it has put there is looked at in turn.
                shutil.rmtree(old, ignore_errors=True)
                continue
            if old.exists():
                os.replace(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
        return
