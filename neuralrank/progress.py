"""Progress bars: on standard error, and only for a person who watches."""

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, track

__all__ = ["progress_bar", "tracked"]

_Thing = TypeVar("_Thing")


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar of rich; without columns, with the usual ones."""
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def tracked(things: Sequence[_Thing], what: str) -> Iterable[_Thing]:
    """The things, with a bar that goes on with each."""
    return track(
        things,
        description=what,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
