"""What users did, as numbers: the files of a leave-last-out test, and the histories in them.

Ids say nothing to any model here. Where items are numbered in the order in which they first
appear, as in many public sets, the next number is often the next item: a model that sees ids, or
breaks ties by them, looks good for no reason. So items are numbered anew, by a hash of their id.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.files.zipped import DAMAGED, unzipped

__all__ = ["UNKNOWN", "Histories", "Numbers", "read_histories", "read_targets"]

# Numbers of items, int64.
Numbers = NDArray[np.int64]

# The place of a user without a history, and the number of an item that no catalogue has.
UNKNOWN: Final = -1
_ENDING_BYTES: Final = 16
# A share of users, or of items, that no chance explains.
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


def read_histories(
    path: Path, items: Sequence[str], tell: Callable[[str], None] | None = None
) -> Histories:
    """Histories from lines of `user<TAB>item item …`, oldest first; the file may be gzip.

    What is not in the catalogue (any more) is left out and told, and so are users who then have
    nothing, and a header.

    Args:
        items: ids of the whole catalogue.
        tell: is told what was left out. Default: standard error.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a line is of another shape, a user comes twice, or most items are not in the
            catalogue.
    """
    tell = tell or _tell
    known = set(items)
    found: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    count, left, example = 0, 0, ""
    header = ""
    for number, user, rest in _lines(path, "the items, separated by blanks, oldest first"):
        given = rest.split()
        kept = [item for item in given if item in known]
        if not numbers and not header and not kept and _like_header(user, rest):
            header = f"{user}\t{rest}"
            continue
        if user in numbers:
            raise InvalidInput(
                f"{path}:{number}: the user {user!r} comes twice, first in line {numbers[user]}. "
                "Give all that a user had in one line, oldest first."
            )
        numbers[user] = number
        count += len(given)
        left += len(given) - len(kept)
        if len(kept) < len(given) and not example:
            unknown = next(item for item in given if item not in known)
            example = f"line {number} has {unknown!r} of {user!r}"
        if kept:
            found[user] = kept
    _tell_header(path, header, tell)
    if left > _MOST * count:
        raise InvalidInput(
            f"{path}: {left:,} of {count:,} items are not in the catalogue: {example}. It is the "
            "catalogue of something else. Give the one that the histories are of."
        )
    if left:
        tell(
            f"{path}: {left:,} of {count:,} items are not in the catalogue, and left out: "
            f"{example}."
        )
    if without := len(numbers) - len(found):
        tell(f"{path}: {without:,} of {len(numbers):,} users have no item, and are left out.")
    return Histories.of(items, found)


def read_targets(
    path: Path, histories: Histories, tell: Callable[[str], None] | None = None
) -> tuple[list[int], Numbers]:
    """Places of users and their next items, from lines of `user<TAB>item`; the file may be gzip.

    The place of a user without a history is UNKNOWN, and so is an item that is not in the
    catalogue; how many there are is told.

    Args:
        tell: is told what is unknown. Default: standard error.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a line is of another shape, a user comes twice, most items are not in the
            catalogue, or the histories hold what is to be guessed.
    """
    tell = tell or _tell
    lines: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    seen: dict[str, int] = {}
    header = example = ""
    for number, user, item in _lines(path, "the next item"):
        place = histories.places.get(user, UNKNOWN)
        target = histories.numbers.get(item, UNKNOWN)
        first = not seen and not header
        if first and place == target == UNKNOWN and _like_header(user, item):
            header = f"{user}\t{item}"
            continue
        if not item or (target == UNKNOWN and len(item.split()) > 1):
            raise _shape(path, number, f"{user}\t{item}", "the next item")
        if user in seen:
            raise InvalidInput(
                f"{path}:{number}: the user {user!r} comes twice, first in line {seen[user]}. One "
                "item of each user is to be guessed."
            )
        seen[user] = number
        if target == UNKNOWN and not example:
            example = f"line {number} has {item!r} of {user!r}"
        lines.append(number)
        places.append(place)
        targets.append(target)
    if not lines:
        raise InvalidInput(
            f"{path} has only {header!r}, which names no user and no item that is known; a line is "
            "a user, a tab and the next item."
        )
    _tell_header(path, header, tell)
    found = np.array(targets, np.int64)
    unknown = int((found == UNKNOWN).sum())
    if unknown > _MOST * len(found):
        raise InvalidInput(
            f"{path}: {unknown:,} of {len(found):,} items are not in the catalogue: {example}. It "
            "is the catalogue of something else. Give the one that the targets are of."
        )
    if unknown:
        tell(
            f"{path}: {unknown:,} of {len(found):,} items are not in the catalogue, a miss for "
            f"every system: {example}."
        )
    if new := places.count(UNKNOWN):
        tell(
            f"{path}: {new:,} of {len(found):,} users have no history. They are new: every system "
            "guesses what is popular."
        )
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
    known = [at for at, place in enumerate(places) if place != UNKNOWN]
    if not known:
        return
    lines, places, targets = (
        [lines[at] for at in known],
        [places[at] for at in known],
        targets[known],
    )
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
    """Number, first and second part of each line that is not empty; the second may be empty."""
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    count = 0
    try:
        with path.open("rb") as raw, TextIOWrapper(unzipped(raw), "utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                user, tab, rest = line.rstrip("\r\n").partition("\t")
                if not tab or not user.strip():
                    raise _shape(path, number, line.rstrip("\r\n"), second)
                count += 1
                yield number, user.strip(), rest.strip()
    except (OSError, UnicodeDecodeError, *DAMAGED) as error:
        raise InvalidInput(f"{path} can't be read: {error}.") from error
    if not count:
        raise InvalidInput(f"{path} is empty; a line is a user, a tab and {second}.")


def _shape(path: Path, number: int, line: str, second: str) -> InvalidInput:
    return InvalidInput(
        f"{path}:{number}: got {line[:80]!r}; a line is a user, a tab and {second}."
    )


def _like_header(first: str, second: str) -> bool:
    """Whether a first line of which nothing is known may name columns: words without digits."""
    return bool(second) and not any(letter.isdigit() for letter in first + second)


def _tell_header(path: Path, header: str, tell: Callable[[str], None]) -> None:
    if header:
        tell(
            f"{path}: the first line, {header[:80]!r}, is taken for a header and left out: none of "
            "it is in the catalogue."
        )


def _tell(text: str) -> None:
    print(f"neuralrank: {text}", file=sys.stderr, flush=True)


def _digest(item: str) -> bytes:
    return hashlib.blake2b(item.encode(), digest_size=16).digest()
