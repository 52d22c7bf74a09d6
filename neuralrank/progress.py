"""Progress bars: on standard error, and only for a person who watches."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)

__all__ = ["Tell", "progress_bar", "told", "tracked"]

_Thing = TypeVar("_Thing")
# Called with what is done, how much of it and of how much.
Tell = Callable[[str, int, int], None]


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


@contextmanager
def told() -> Iterator[Tell]:
    """A bar for each thing that it is told of, counted."""
    bar = progress_bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield tell
