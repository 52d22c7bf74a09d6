"""Files that are read again when they change: certificates, tokens."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from neuralrank.errors import InvalidSettings
from sidecar.deadline import Clock

__all__ = ["FileWatch"]

_log = logging.getLogger(__name__)
_Content = TypeVar("_Content")
_Signature = tuple[tuple[int, int, int, int], ...]


class FileWatch:
    """Reads some files anew when one of them is not what it was. It looks at most once in `every`
    seconds, so that asking costs nothing on a busy server.

    Files are told apart by inode, size and both times of change: a file that is replaced (as
    Kubernetes and certbot do, by a link) is seen as well as one that is written in place, and as
    one that may be read only since its mode or owner was changed.
    """

    def __init__(self, what: str, paths: Sequence[Path], clock: Clock, every: float = 1.0) -> None:
        """
        Args:
            what: they are called in the log, in the plural.
        """
        self._what = what
        self._paths = tuple(paths)
        self._clock = clock
        self._every = every
        self._next = clock() + every
        self._seen = self.signature()
        self._problem = ""

    def renewed(self, read: Callable[[], _Content]) -> _Content | None:
        """What `read` gives, where a file is not what it was when that last succeeded; else None.

        Files that can't be used (InvalidSettings) leave what was read before in force, as a change
        may be half done: the log says so once, and they are read again at each look until they can
        be used.
        """
        now = self._clock()
        if now < self._next:
            return None
        self._next = now + self._every
        found = self.signature()
        if found == self._seen:
            return None
        try:
            content = read()
        except InvalidSettings as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error("the %s stay as they were", self._what, extra={"reason": str(error)})
            return None
        # As they were before they were read: what changed meanwhile is seen at the next look.
        self._seen, self._problem = found, ""
        _log.info("%s read again", self._what)
        return content

    def signature(self) -> _Signature:
        """What the files are now; of one that is not there, zeros."""
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> tuple[int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
