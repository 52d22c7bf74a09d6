"""What users did, as numbers: the files of a leave-last-out test, and the histories in them.

Ids say nothing to any model here. Where items are numbered in the order in which they first
appear, as in many public sets, the next number is often the next item: a model that sees ids, or
breaks ties by them, looks good for no reason. So items are numbered anew, by a hash of their id.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput, NotFound

__all__ = ["Histories", "Numbers", "read_histories", "read_targets"]

# Numbers of items, int64.
Numbers = NDArray[np.int64]

_ENDING_BYTES: Final = 16
# A share of users that no chance explains.
_MOST: Final = 0.5


@dataclass(frozen=True)
class Histories:
    """Users with what they did, oldest first. Every history has at least one item."""

    # Ids by number.
    items: tuple[str, ...]
    users: tuple[str, ...]
    # Of each user, item numbers, oldest first.
    rows: tuple[Numbers, ...]

    @classmethod
    def of(cls, items: Sequence[str], histories: Mapping[str, Sequence[str]]) -> "Histories":
        """Histories of ids.

        Raises:
            InvalidInput: an item is not in the catalogue, or there is no history.
        """
        ordered = sorted(items, key=_digest)
        numbers = {item: number for number, item in enumerate(ordered)}
        rows: list[Numbers] = []
        for user, history in histories.items():
            unknown = next((item for item in history if item not in numbers), None)
            if unknown is not None:
                raise InvalidInput(
                    f"User {user!r} has the item {unknown!r}, which is not in the catalogue. "
                    "Give the catalogue that the histories are of."
                )
            rows.append(np.array([numbers[item] for item in history], np.int64))
        if not any(len(row) > 1 for row in rows):
            raise InvalidInput("No user has two items or more: there is nothing to learn from.")
        return cls(tuple(ordered), tuple(histories), tuple(rows))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Item numbers by id."""
        return {item: number for number, item in enumerate(self.items)}

    @cached_property
    def places(self) -> dict[str, int]:
        """Places in `rows` by user."""
        return {user: place for place, user in enumerate(self.users)}

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """How often each item occurs, int64 [items]."""
        return np.bincount(np.concatenate(self.rows), minlength=len(self.items)).astype(np.int64)

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """How many users have each item, however often, int64 [items]."""
        users = np.repeat(np.arange(len(self.rows)), [len(row) for row in self.rows])
        had = np.unique(users * len(self.items) + np.concatenate(self.rows))
        return np.bincount(had % len(self.items), minlength=len(self.items)).astype(np.int64)

    @cached_property
    def hash(self) -> str:
        """Of the content; what was learned from other histories has another."""
        digest = hashlib.sha256("\0".join(self.items).encode())
        for user, row in zip(self.users, self.rows, strict=True):
            digest.update(f"\0{user}\0".encode() + row.tobytes())
        return digest.hexdigest()[:_ENDING_BYTES]

    def without_last(self) -> tuple["Histories", Numbers]:
        """The histories without their last item, and those items: what a model may be tuned and a
        ranker trained with. Users with one item are left out."""
        kept = [place for place, row in enumerate(self.rows) if len(row) > 1]
        earlier = Histories(
            self.items,
            tuple(self.users[place] for place in kept),
            tuple(self.rows[place][:-1] for place in kept),
        )
        return earlier, np.array([self.rows[place][-1] for place in kept], np.int64)

    def repeats(self) -> float:
        """Share of users whose last item is one that they had before, in [0, 1]."""
        return float(np.mean([row[-1] in row[:-1] for row in self.rows]))


def read_histories(path: Path, items: Sequence[str]) -> Histories:
    """Histories from lines of `user<TAB>item item …`, oldest first; the file may be .gz.

    Args:
        items: ids of the whole catalogue.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a line is of another shape, a user comes twice, or an item is not in the
            catalogue.
    """
    found: dict[str, list[str]] = {}
    for number, user, rest in _lines(path, "the items, separated by blanks, oldest first"):
        if user in found:
            raise InvalidInput(f"{path}:{number}: the user {user!r} comes twice.")
        found[user] = rest.split()
    return Histories.of(items, found)


def read_targets(path: Path, histories: Histories) -> tuple[list[int], Numbers]:
    """Places of users and their next items, from lines of `user<TAB>item`.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a line is of another shape, its user or item is unknown, or the histories hold
            what is to be guessed.
    """
    lines: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    seen: set[str] = set()
    for number, user, item in _lines(path, "the next item"):
        if user in seen:
            raise InvalidInput(f"{path}:{number}: the user {user!r} comes twice.")
        if user not in histories.places:
            raise InvalidInput(f"{path}:{number}: the user {user!r} has no history.")
        if item not in histories.numbers:
            raise InvalidInput(f"{path}:{number}: the item {item!r} is not in the catalogue.")
        seen.add(user)
        lines.append(number)
        places.append(histories.places[user])
        targets.append(histories.numbers[item])
    found = np.array(targets, np.int64)
    _check_leak(path, lines, histories, places, found)
    return places, found


def _check_leak(
    path: Path, lines: Sequence[int], histories: Histories, places: Sequence[int], targets: Numbers
) -> None:
    """
    Raises:
        InvalidInput: of most users the last item of the history is the target, and it is not so
            that most of them take the same item again and again.
    """
    rows = [histories.rows[place] for place in places]
    given = np.array([row[-1] for row in rows]) == targets
    again = np.array([len(row) > 1 and row[-1] == row[-2] for row in rows])
    if given.mean() <= _MOST or again.mean() > _MOST:
        return
    first = int(np.argmax(given))
    user, item = histories.users[places[first]], histories.items[targets[first]]
    raise InvalidInput(
        f"{path}:{lines[first]}: the item {item!r} is the last one of the history of {user!r}, as "
        f"of {given.mean():.0%} of users: what is to be guessed is given. Take the targets out of "
        "the histories."
    )


def _lines(path: Path, second: str) -> Iterator[tuple[int, str, str]]:
    """Number, first and second part of each line that is not empty."""
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    count = 0
    try:
        unzipped = gzip.open if path.suffix == ".gz" else open
        with unzipped(path, "rt", encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                user, tab, rest = line.rstrip("\r\n").partition("\t")
                if not tab or not user.strip() or not rest.strip():
                    raise InvalidInput(
                        f"{path}:{number}: got {line[:80]!r}; a line is a user, a tab and {second}."
                    )
                count += 1
                yield number, user.strip(), rest.strip()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidInput(f"{path} can't be read: {error}.") from error
    if not count:
        raise InvalidInput(f"{path} is empty; a line is a user, a tab and {second}.")


def _digest(item: str) -> bytes:
    return hashlib.blake2b(item.encode(), digest_size=16).digest()
