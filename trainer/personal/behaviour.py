"""What users did, as lists of items of which one or some were chosen: what a ranker learns from.

A visit is a page that was shown for a query, or recommended; what was clicked counts by how rarely
its place is looked at. A history is one user's steps; each but the first may be guessed from those
before it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.personal.inputs import ACTIONS, action_numbers
from neuralrank.text.exclusions import as_read
from trainer.dataset import SPLITS, Dataset
from trainer.dataset.checks import milliseconds
from trainer.dataset.finding import Bm25
from trainer.personal.sequences import Histories, Numbers
from trainer.personal.shop import Shop

__all__ = [
    "Behaviour",
    "History",
    "Part",
    "Visit",
    "from_dataset",
    "from_histories",
    "require_held",
]

Floats = NDArray[np.float32]

# What a click counts at most: one at a place that hardly anybody looks at would outweigh all.
_MOST: Final = 10.0
# Of histories without times, the share of users whose last item is guessed and not learned.
_DEV_USERS: Final = 0.1
_SEED: Final = 5
_NOTHING_HELD: Final = (
    "The part that is kept back has no user who did something, and no page with a click: there is "
    "nothing to stop by or to measure with. Make the dataset from a longer time, or with a larger "
    "--dev and --test."
)


@dataclass(frozen=True)
class History:
    """Steps of one user, oldest first: int64 [steps] both, the second places in ACTIONS."""

    items: Numbers
    actions: Numbers
    # So many were done before the window.
    given: int = 0
    # "": nobody known.
    user: str = ""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def first(self) -> int:
        """The first step that may be guessed, 1 or more. Of who did nothing in the window, any."""
        return max(self.given, 1) if self.given < len(self) else 1

    def before(self, place: int) -> "History":
        """The steps before the one at a place."""
        return History(self.items[:place], self.actions[:place], user=self.user)

    @classmethod
    def empty(cls, user: str) -> Self:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), user=user)


@dataclass(frozen=True)
class Visit:
    """A page of which something was clicked."""

    # What its user did before.
    history: History
    # Its place in `Behaviour.queries`; -1: recommended, without a query.
    query: int
    # What was shown: int64 [n], float32 [n] that is above 0 where it was clicked, and float32 [n],
    # how well words match, 1 for the best of the page, NaN without a query.
    items: Numbers
    gains: Floats
    retrieval: Floats


@dataclass(frozen=True)
class Part:
    """Of one part of the data. Histories have two steps or more."""

    visits: tuple[Visit, ...] = ()
    histories: tuple[History, ...] = ()
    # Of one step: there is nothing to guess, but they say what most have.
    single: tuple[History, ...] = ()

    def __len__(self) -> int:
        return len(self.visits) + len(self.histories)


@dataclass(frozen=True)
class Behaviour:
    """What there is to learn from, and to stop by: of the dev part's histories the last step."""

    shop: Shop
    train: Part
    dev: Part
    # float32 [queries, d].
    queries: Floats
    # What it is, for the run's folder and the bundle.
    source: str
    window: str = ""

    def __post_init__(self) -> None:
        if not len(self.dev):
            raise InvalidInput(_NOTHING_HELD)

    @property
    def searched(self) -> bool:
        """Whether a page of the train part was shown for a query."""
        return any(visit.query >= 0 for visit in self.train.visits)

    def acts(self) -> Numbers:
        """Steps of the train part's users by kind of action, int64 [ACTIONS]."""
        seen = (*self.train.histories, *(visit.history for visit in self.train.visits))
        every = np.concatenate([np.zeros(0, np.int64), *(one.actions for one in seen)])
        return np.bincount(every, minlength=len(ACTIONS))

    def counts(self) -> Numbers:
        """Steps of the train part's histories on each item, int64 [items]."""
        steps = [one.items for one in self.train.histories]
        every = np.concatenate([np.zeros(0, np.int64), *steps])
        return np.bincount(every, minlength=len(self.shop.ids))


def from_dataset(
    data: Dataset, shop: Shop, encode: Callable[[Sequence[str]], Floats], held: str = "dev"
) -> Behaviour:
    """
    Where the dataset has a window, what users did in it is to be guessed, and what they did before
    is given. Who did nothing in it is there to be remembered: any step may be guessed.

    Args:
        shop: of the dataset's items, in their order.
        encode: vectors of queries, float32 [n, d].
        held: the part to stop by, or to measure with: "dev" or "test".

    Raises:
        InvalidInput: it holds nothing to stop by.
    """
    rows = {part: _rows(data, part, shop) for part in ("train", held)}
    texts = data.query_texts()
    pages = {"train": _pages(data, "train")}
    pages[held] = _searches(data, held)
    asked = list(dict.fromkeys(page["query_id"] for part in pages.values() for page in part))
    asked = [query for query in asked if query]
    place = {query: number for number, query in enumerate(asked)}
    words = Bm25(data.items["text"].to_pylist()) if asked else None
    known: dict[str, Floats] = {}

    def visits(part: str, of_user: Mapping[str, _Row]) -> tuple[Visit, ...]:
        found = []
        for page in pages[part]:
            query = page["query_id"]
            items = np.array([shop.numbers[name] for name in page["items"]], np.int64)
            row = of_user.get(page["user"])
            history = (
                row.history.before(row.until(page["time"])) if row else History.empty(page["user"])
            )
            gains = np.array(page["gains"], np.float32)
            if not query:
                unknown = np.full(len(items), np.nan, np.float32)
                found.append(Visit(history, -1, items, gains, unknown))
                continue
            if words is not None and query not in known:
                known.clear()  # pages come by query
                known[query] = words.scores(texts[query])
            match = known[query][items]
            retrieval = np.asarray(match / max(float(match.max()), 1e-6), np.float32)
            found.append(Visit(history, place[query], items, gains, retrieval))
        return tuple(found)

    # Who did something there is known with all that went before; others by what they did in train.
    known_users = {**rows["train"], **rows[held]}
    single = tuple(row.history for row in rows["train"].values() if len(row.history) == 1)
    train = Part(visits("train", rows["train"]), _histories(rows["train"]), single)
    dev = Part(visits(held, known_users), _histories(rows[held]))
    # As the sidecar has them encoded. Words match the whole query, as the caller's own search does.
    vectors = encode([as_read(texts[query]) for query in asked]) if asked else shop.vectors[:0]
    return Behaviour(
        shop, train, dev, vectors, f"{data.description.source} {data.description.created}",
        data.description.window.interval,
    )  # fmt: skip


def require_held(data: Dataset, held: str) -> int:
    """What `from_dataset` asks of the part to stop by or to measure with, without any vectors.

    Returns:
        How many pages and users there are.

    Raises:
        InvalidInput: it holds nothing to do so.
    """
    steps = (len(items) for items in data.of("sequences", held)["items"].to_pylist())
    found = sum(count > 1 for count in steps) + len(_searches(data, held))
    if not found:
        raise InvalidInput(_NOTHING_HELD)
    return found


def from_histories(histories: Histories, shop: Shop) -> Behaviour:
    """Histories without times and queries; the last item of a tenth of the users is the dev part.

    Args:
        shop: of the histories' items, in their order.
    """
    long = [row for row in histories.rows if len(row) > 1]
    short = [row for row in histories.rows if len(row) == 1]
    order = np.random.default_rng(_SEED).permutation(len(long))
    held = set(order[: max(1, round(_DEV_USERS * len(long)))].tolist())

    def history(row: Numbers) -> History:
        return History(row, np.full(len(row), action_numbers(["click"])[0]))

    train = [row[:-1] if number in held else row for number, row in enumerate(long)]
    known = [history(row) for row in (*train, *short)]
    return Behaviour(
        shop,
        Part(
            (),
            tuple(one for one in known if len(one) > 1),
            tuple(one for one in known if len(one) == 1),
        ),
        Part((), tuple(history(long[number]) for number in sorted(held))),
        shop.vectors[:0],
        # Ids alone do not tell that the catalogue has new titles; a dataset holds its own.
        f"histories {histories.hash}, items {shop.hash}",
    )


@dataclass(frozen=True)
class _Row:
    history: History
    times: Numbers

    def until(self, time: int) -> int:
        """How many steps were over before a time."""
        return int(np.searchsorted(self.times, time, side="left"))


def _rows(data: Dataset, part: str, shop: Shop) -> dict[str, _Row]:
    since = data.description.window.since
    begins = milliseconds(since, "dataset.json: window.from") if since else None
    found = {}
    for row in data.of("sequences", part).to_pylist():
        items = np.array([shop.numbers[name] for name in row["items"]], np.int64)
        times = np.array(row["times"], np.int64)
        given = int((times < begins).sum()) if begins is not None else 0
        history = History(items, action_numbers(row["actions"]), given, row["user_id"])
        found[row["user_id"]] = _Row(history, times)
    return found


def _histories(rows: Mapping[str, _Row]) -> tuple[History, ...]:
    return tuple(row.history for row in rows.values() if len(row.history) > 1)


def _searches(data: Dataset, held: str) -> list[dict[str, Any]]:
    """Pages that measure. What is recommended is learned from; what measures that head is what
    users did next."""
    return [page for page in _pages(data, held) if page["query_id"]]


def _pages(data: Dataset, part: str) -> list[dict[str, Any]]:
    """Pages on which something was clicked and something was not, by query. A click on what its
    user has blocked by the end of the part is none, as it is no step of a history."""
    parts = pa.array(SPLITS[: SPLITS.index(part) + 1])
    until = data.blocked.filter(pc.is_in(data.blocked["split"], parts))
    blocked = set(zip(until["user_id"].to_pylist(), until["item_id"].to_pylist(), strict=True))
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"items": [], "gains": []})
    for row in data.of("impressions", part).to_pylist():
        page = found[row["page_id"]]
        page |= {"query_id": row["query_id"], "user": row["user_id"], "time": row["time"]}
        page["items"].append(row["item_id"])
        weight = min(1.0 / max(row["propensity"], 1e-6), _MOST)
        liked = row["clicked"] and (row["user_id"], row["item_id"]) not in blocked
        page["gains"].append(weight if liked else 0.0)
    useful = [page for page in found.values() if np.count_nonzero(page["gains"]) > 0]
    useful = [page for page in useful if np.count_nonzero(page["gains"]) < len(page["gains"])]
    return sorted(useful, key=lambda page: str(page["query_id"]))
