"""The folder to which bundles of a remote registry are copied before they are opened.

    <cache>/<name>/<hash>/manifest.json …

All processes of a machine share it, whatever registry each of them follows. A folder's time of
change says when somebody last used it: that is all that they know of each other.
"""

import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from neuralrank.bundles.bundle import parse_ref

__all__ = ["BundleCache"]

# Seconds after which what nobody used is deleted. Whoever follows a registry marks what it uses
# several times a day, and opening a bundle takes seconds.
_UNUSED_SECONDS: Final = 86_400.0


class BundleCache:
    """Copies of bundles, by `name@hash`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, ref: str) -> Path:
        """Where a bundle is, or is to be put."""
        name, digits = parse_ref(ref)
        return self._folder / name / digits

    def mark(self, refs: Iterable[str]) -> None:
        """Says to other processes that these are used, as far as they are there."""
        for ref in refs:
            with suppress(OSError):  # not there, or another user's
                os.utime(self.path(ref))

    def tidy(self, used: Collection[str]) -> None:
        """Marks these, and deletes what nobody has used for a day: bundles that left their
        registry, and what was left of copies that were cut off."""
        self.mark(used)
        keep = {self.path(ref) for ref in used}
        for folder in self._folder.glob("*/*"):
            with suppress(OSError):  # another process is at it, or it is another user's
                if folder not in keep and time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
                    # In one step out of sight: who opens it finds it whole, or not at all.
                    gone = folder.rename(folder.with_name(f".{uuid.uuid4().hex}.{folder.name}"))
                    shutil.rmtree(gone)
