"""Files that are read again when they change: certificates, tokens."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.deadline import Clock

__all__ = ["FileWatch"]

_Signature = tuple[tuple[int, int, int], ...]


class FileWatch:
    """Says when one of some files is not what it was. It looks at most once in `every` seconds, so
    that asking costs nothing on a busy server.

    Files are told apart by inode, size and time of change: a file that is replaced (as Kubernetes
    and certbot do, by a link) is seen as well as one that is written in place.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, every: float = 1.0) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._every = every
        self._next = clock() + every
        self._seen = self.signature()

    def changed(self) -> bool:
        """Whether something changed since the last time that this said so."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        found = self.signature()
        if found == self._seen:
            return False
        self._seen = found
        return True

    def signature(self) -> _Signature:
        """What the files are now; of one that is not there, zeros."""
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns
