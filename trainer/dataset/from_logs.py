"""A dataset of logs: what users clicked, freed of where it stood."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.judging import query_id
from neuralrank.text.language import detect
from trainer.dataset.format import (
    EXAMPLES,
    IMPRESSIONS,
    QUERIES,
    SPLITS,
    Dataset,
    Description,
    Propensities,
    Window,
)
from trainer.dataset.labels import Labelled, label
from trainer.dataset.negatives import FEATURES, Finders, Found, added
from trainer.dataset.pages import OUTCOMES, Page, read_pages
from trainer.dataset.propensity import Seen, Theta, estimate
from trainer.dataset.sequences import read_blocked, read_sequences
from trainer.dataset.splits import Shares, by_time, segments, times_of
from trainer.feedback import Logs

__all__ = ["LogOptions", "from_logs"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LogOptions:
    """How logs become a dataset."""

    # Of trainer.dataset.propensity.ESTIMATORS.
    propensities: str = "auto"
    shares: Shares = field(default_factory=Shares)
    # Ends of parts, ISO 8601; "": by the shares.
    train_until: str = ""
    dev_until: str = ""
    # Negatives that a query of train with something liked has at least; unseen ones fill it up.
    negatives: int = 4
    seed: int = 0


@dataclass(frozen=True)
class _Pairs:
    """Pairs of query and item that were shown, and each impression's pair."""

    keys: list[tuple[str, str]]  # query key, item
    of: NDArray[np.int64]  # [impressions]
    position: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    gain: NDArray[np.float64]  # in [0, 1]
    train: NDArray[np.bool_]


def from_logs(
    logs: Logs,
    items: pa.Table,
    finders: Finders,
    options: LogOptions,
    source: str,
    progress: Progress,
) -> Dataset:
    """
    Args:
        items: ITEMS of the catalogue; `finders` are over the same, in the same order.
        source: in words, what the logs are.

    Raises:
        InvalidInput: the logs hold no page that can be used, or nobody clicked.
    """
    names: list[str] = items["item_id"].to_pylist()
    row_of = {name: row for row, name in enumerate(names)}
    skipped: Counter[str] = Counter()
    found = read_pages(logs, set(row_of), skipped)
    pages = [page for page in found if page.key]
    recommended = [page for page in found if not page.key]
    if not pages:
        raise InvalidInput(
            "The logs hold no page with a query and with items of the catalogue: "
            f"{_listed(skipped)}. Are impressions logged (action_name `impression`, or "
            "query_response_hit_ids), and is it the same catalogue?"
        )
    times = times_of(
        [page.time for page in pages], options.shares, options.train_until, options.dev_until
    )
    came: dict[str, set[str]] = defaultdict(set)
    for page in pages:
        came[page.key].add(times.part(page.time))
    part_of = by_time(came, options.shares, options.seed)
    if "train" not in part_of.values():
        raise InvalidInput(
            f"None of the logs' queries ({len(came):,}) is left to learn from: all are kept for "
            "dev and test, by a hash of their text (so many as --dev and --test say), or since "
            "they came in that time only. Pull a longer window with more queries, take another "
            "--seed, or make --dev and --test smaller."
        )
    kept = [page for page in pages if times.part(page.time) == part_of.get(page.key)]
    skipped["pages of queries that are in another part"] += len(pages) - len(kept)
    shown = {page.page_id: page.time for page in found}
    blocked = read_blocked(logs, times, shown)
    pairs = _pairs(kept, part_of, blocked)
    searched, features = _look(pairs, kept, row_of, finders, progress)
    train = pairs.train
    if not (pairs.gain[train] > 0).any():
        raise InvalidInput(
            "One class only: nobody clicked anything in the train part (but what they blocked), so "
            "nothing can be learned from it. Pull a longer window."
        )
    seen = Seen.of(pairs.of[train], pairs.position[train], pairs.clicked[train])
    theta = estimate(seen, features, options.propensities, options.seed)
    looks = _sums(pairs, theta.at(pairs.position))
    gain = _sums(pairs, pairs.gain)
    learned = _sums(pairs, train) > 0
    labelled = label(looks, gain, learned)
    examples = _examples(pairs, labelled, searched, part_of, row_of, options)
    used = {key for key, _ in pairs.keys}
    counts = Counter(page.key for page in pages)
    return Dataset(
        Description(
            source=source,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            window=Window.model_validate({"from": logs.since, "until": logs.until}),
            split=times.split(),
            propensities=Propensities(
                estimator=theta.estimator, values=tuple(np.round(theta.values, 5).tolist())
            ),
            counts={
                "pages": dict(Counter(part_of[page.key] for page in kept)),
                "recommendations": dict(Counter(times.part(page.time) for page in recommended)),
                "skipped": dict(skipped),
                "propensities": theta.note,
                **_counts(examples),
            },
        ),
        items=items,
        queries=_queries(kept, used, part_of, counts),
        examples=pa.Table.from_pylist(
            [row | {"item_id": names[row["item_id"]]} for row in examples], EXAMPLES
        ),
        sequences=read_sequences(logs, set(row_of), times, shown),
        impressions=_impressions(
            [(page, query_id(page.key), part_of[page.key]) for page in kept]
            + [(page, "", times.part(page.time)) for page in recommended],
            theta,
        ),
        blocked=blocked,
    )


def _pairs(pages: Sequence[Page], part_of: dict[str, str], blocked: pa.Table) -> _Pairs:
    """What a user has blocked by the end of a part was looked at, and is not what they like."""
    unliked = {
        (row["user_id"], row["item_id"], part)
        for row in blocked.to_pylist()
        for part in SPLITS[SPLITS.index(row["split"]) :]
    }
    numbers: dict[tuple[str, str], int] = {}
    of, position, clicked, outcome, train = [], [], [], [], []
    for page in pages:
        for item, place in page.positions.items():
            of.append(numbers.setdefault((page.key, item), len(numbers)))
            position.append(place)
            value = page.outcomes.get(item, 0)
            clicked.append(value > 0)
            outcome.append(0 if (page.user, item, part_of[page.key]) in unliked else value)
            train.append(part_of[page.key] == "train")
    # Of the train part alone, else what happens later would change what is learned.
    highest = max((value for value, early in zip(outcome, train, strict=True) if early), default=1)
    return _Pairs(
        list(numbers),
        np.array(of, np.int64),
        np.array(position, np.int64),
        np.array(clicked, np.bool_),
        np.minimum(np.array(outcome, np.float64) / (highest or 1), 1.0),
        np.array(train, np.bool_),
    )


def _sums(pairs: _Pairs, values: NDArray[Any]) -> NDArray[np.float64]:
    """Of each pair, over its impressions."""
    return np.bincount(pairs.of, values, len(pairs.keys)).astype(np.float64)


def _look(
    pairs: _Pairs,
    pages: Sequence[Page],
    row_of: dict[str, int],
    finders: Finders,
    progress: Progress,
) -> tuple[dict[str, Found], NDArray[np.float64]]:
    """What a search finds for each query, and features of each pair."""
    texts = {page.key: page.text for page in reversed(pages)}
    of_query: dict[str, list[int]] = defaultdict(list)
    for number, (key, _) in enumerate(pairs.keys):
        of_query[key].append(number)
    features = np.zeros((len(pairs.keys), FEATURES))
    found: dict[str, Found] = {}
    for done, (key, numbers) in enumerate(of_query.items(), start=1):
        rows = np.array([row_of[pairs.keys[number][1]] for number in numbers], np.intp)
        found[key], features[numbers] = finders.look(texts[key], rows)
        progress("searching", done, len(of_query))
    return found, features


def _examples(
    pairs: _Pairs,
    labelled: Labelled,
    found: dict[str, Found],
    part_of: dict[str, str],
    row_of: dict[str, int],
    options: LogOptions,
) -> list[dict[str, Any]]:
    """Rows of EXAMPLES with the item's row in place of its id."""
    rows: list[dict[str, Any]] = []
    seen: dict[str, set[int]] = defaultdict(set)
    liked: Counter[str] = Counter()
    disliked: Counter[str] = Counter()
    for number, (key, item) in enumerate(pairs.keys):
        row = row_of[item]
        seen[key].add(row)
        if not labelled.usable[number]:
            continue
        value = float(labelled.label[number])
        (liked if value else disliked)[key] += 1
        rows.append(
            {
                "query_id": query_id(key),
                "item_id": row,
                "label": value,
                "weight": float(labelled.weight[number]),
                "source": "click",
                "negative": "" if value else found[key].name(row, "shown"),
                "split": part_of[key],
            }
        )
    chance = np.random.default_rng(options.seed)
    for key in liked:
        if part_of[key] != "train":
            continue  # what nobody saw measures nothing
        lacking = options.negatives - disliked[key]
        for row, name in added(found[key], seen[key], len(row_of), lacking, chance):
            rows.append(
                {
                    "query_id": query_id(key),
                    "item_id": row,
                    "label": 0.0,
                    "weight": 1.0,
                    "source": "click",
                    "negative": name,
                    "split": "train",
                }
            )
    return rows


def _queries(
    pages: Sequence[Page], used: set[str], part_of: dict[str, str], counts: Counter[str]
) -> pa.Table:
    texts = {page.key: page.text for page in reversed(pages)}
    where = segments(counts)
    return pa.Table.from_pylist(
        [
            {
                "query_id": query_id(key),
                "text": texts[key],
                "language": detect(texts[key]),
                "split": part_of[key],
                "segment": where[key],
            }
            for key in texts
            if key in used
        ],
        QUERIES,
    )


def _impressions(pages: Sequence[tuple[Page, str, str]], theta: Theta) -> pa.Table:
    """What was shown. Of recommendations too, places are looked at as in what a search found: of
    them alone, each user's own, there is nothing to estimate it by.

    Args:
        pages: each with its query's id, "" for none, and its part.
    """
    rows = [
        {
            "query_id": query,
            "user_id": page.user,
            "time": page.time,
            "page_id": page.page_id,
            "item_id": item,
            "position": place,
            "clicked": page.outcomes.get(item, 0) >= OUTCOMES["click"],
            "propensity": float(theta.values[min(place, len(theta.values)) - 1]),
            "split": part,
        }
        for page, query, part in pages
        for item, place in page.positions.items()
    ]
    return pa.Table.from_pylist(rows, IMPRESSIONS)


def _counts(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "examples": {
            split: {
                "liked": sum(row["split"] == split and row["label"] > 0 for row in examples),
                "negatives": dict(
                    Counter(
                        row["negative"]
                        for row in examples
                        if row["split"] == split and row["negative"]
                    )
                ),
            }
            for split in SPLITS
        }
    }


def _listed(skipped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in skipped.items()) or "it is empty"
