"""What a dataset keeps back: judged queries, and pages that were shown.

Judgments count where the part has any; else what was clicked stands in for them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from trainer.dataset import Dataset
from trainer.evaluation.counterfactual import Logged, cross_fitted

__all__ = [
    "Catalogue", "Item", "Judged", "Pages", "catalogue", "gain", "judged_part", "logged_pages",
]  # fmt: skip

# choice: what users did, which a personal ranker is measured with.
Source = Literal["judgment", "click", "choice"]
# ir_measures wants whole grades; nDCG's gains are the labels up to a factor, which cancels out. It
# is a multiple of all numbers up to 10, so that thirds and sevenths stay what they are.
_GRADES: Final = 2_520


@dataclass(frozen=True, slots=True)
class Item:
    """An item as rankers read it, and what groups it: `department` is the first of its categories,
    `popularity` how often it was clicked, bought or otherwise used in the train part."""

    id: str
    title: str
    text: str
    brand: str
    department: str
    popularity: int


Catalogue = Mapping[str, Item]


@dataclass(frozen=True)
class Judged:
    """Queries of one part with their labelled items; each has items of which one is better than
    another, since without them no ranking is. `labels` by query and item."""

    source: Source
    texts: Mapping[str, str]
    languages: Mapping[str, str]
    segments: Mapping[str, str]
    labels: Mapping[str, Mapping[str, float]]
    # Queries that were left out: none of their items is relevant.
    without_relevant: int
    # … or all are equally relevant, so that every order has the same nDCG.
    alike: int = 0
    # … and those of judgments that the dataset beside them trains on.
    trained: int = 0

    @property
    def pairs(self) -> int:
        return sum(map(len, self.labels.values()))

    def flat(self, scores: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
        """Numbers by query and item in the order of `labels`, float64 [pairs]."""
        rows = [scores[query][item] for query, row in self.labels.items() for item in row]
        return np.array(rows, np.float64)


@dataclass(frozen=True)
class Pages:
    """Logged pages of searches. `attraction` float64 [rows] is what other pages say of each item,
    `users` "new", "returning" or "anonymous" for each page [pages]: a user is new who is on no page
    and in no sequence before this part."""

    logged: Logged
    attraction: NDArray[np.float64]
    users: Sequence[str]
    texts: Mapping[str, str]


def catalogue(data: Dataset) -> dict[str, Item]:
    """The items by id."""
    used: Counter[str] = Counter()
    shown = data.of("impressions", "train")
    used.update(shown.filter(shown["clicked"])["item_id"].to_pylist())
    for items in data.of("sequences", "train")["items"].to_pylist():
        used.update(items)
    names = ("item_id", "title", "text", "brand", "category")
    rows = zip(*(data.items[name].to_pylist() for name in names), strict=True)
    return {
        item: Item(item, title, text, brand, category.split(">")[0].strip(), used[item])
        for item, title, text, brand, category in rows
    }


def judged_part(data: Dataset, split: str) -> Judged | None:
    """The judged queries of a part; None where it has no labelled pair.

    Raises:
        InvalidInput: no query has labels that differ, so that no ranking is better than another.
    """
    examples = data.of("examples", split)
    if not examples.num_rows:
        return None
    by_hand = examples.filter(pc.equal(examples["source"], "judgment"))
    source: Source = "judgment" if by_hand.num_rows else "click"
    examples = by_hand if by_hand.num_rows else examples
    labels = _labels(examples)
    values = {label for row in labels.values() for label in row.values()}
    if len(values) == 1:
        raise InvalidInput(
            f"The {split} part has one class only: the label of all {examples.num_rows:,} pairs is "
            f"{values.pop():g}. Nothing can be told apart by it; label pairs that are relevant and "
            "pairs that are not (`neuralrank train dataset`)."
        )
    gains = {query: {gain(label) for label in row.values()} for query, row in labels.items()}
    kept = {query: row for query, row in labels.items() if len(gains[query]) > 1}
    if not kept:
        raise InvalidInput(
            f"The {split} part has nothing to put in order: in each of its {len(labels):,} queries "
            "the labels of all items are the same. Label, for one query, pairs that are relevant "
            "and pairs that are not (`neuralrank train dataset`)."
        )
    without_relevant = sum(found == {0} for found in gains.values())
    columns = ("query_id", "text", "language", "segment")
    queries = {
        query: rest
        for query, *rest in zip(*(data.queries[name].to_pylist() for name in columns), strict=True)
        if query in kept
    }
    return Judged(
        source,
        texts={query: text for query, (text, _, _) in queries.items()},
        languages={query: language for query, (_, language, _) in queries.items()},
        segments={query: segment for query, (_, _, segment) in queries.items()},
        labels=kept,
        without_relevant=without_relevant,
        alike=len(labels) - len(kept) - without_relevant,
    )


def gain(label: float) -> int:
    """What nDCG counts for a label in [0, 1]; more than nothing for one above 0."""
    return max(round(label * _GRADES), int(label > 0))


def logged_pages(data: Dataset) -> Pages | None:
    """The pages of searches in the test part; None where there are none.

    A page without a query's text is a recommendation, which a text ranker has nothing to say of.
    """
    texts = {query: text for query, text in data.query_texts().items() if text.strip()}
    shown = data.impressions
    shown = shown.filter(pc.is_in(shown["query_id"], pa.array(list(texts), pa.string())))
    if not pc.any(pc.equal(shown["split"], "test")).as_py():
        return None
    shown = shown.sort_by([(name, "ascending") for name in ("split", "page_id", "position")])
    keys = list(zip(shown["split"].to_pylist(), shown["page_id"].to_pylist(), strict=True))
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    propensity = shown["propensity"].to_numpy().astype(np.float64)
    position = shown["position"].to_numpy().astype(np.int64)
    logged = Logged(
        page=np.array([number[key] for key in keys], np.int64),
        query=shown["query_id"].to_pylist(),
        item=shown["item_id"].to_pylist(),
        position=position,
        clicked=shown["clicked"].to_numpy(zero_copy_only=False).astype(np.float64),
        propensity=propensity,
        examination=_examination(data, position, propensity),
    )
    test = np.array([split == "test" for split, _ in keys])
    attraction = cross_fitted(logged, ~test)[test]
    return Pages(logged.rows(test), attraction, _users(data, shown, keys), texts)


def _labels(examples: pa.Table) -> dict[str, dict[str, float]]:
    """The weighted mean of each pair's labels, by query and item."""
    sums: dict[str, dict[str, tuple[float, float]]] = {}
    names = ("query_id", "item_id", "label", "weight")
    for query, item, label, weight in zip(*(examples[n].to_pylist() for n in names), strict=True):
        row = sums.setdefault(query, {})
        total, weights = row.get(item, (0.0, 0.0))
        row[item] = (total + weight * label, weights + weight)
    return {
        query: {item: total / weights for item, (total, weights) in row.items()}
        for query, row in sums.items()
    }


def _examination(
    data: Dataset, position: NDArray[np.int64], propensity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By place, [places]: what the dataset says, else what its rows say; a place that no row has is
    looked at like the one above it."""
    told = data.description.propensities.values
    if told:
        return np.array(told, np.float64)
    sums = np.bincount(position - 1, propensity)
    counts = np.bincount(position - 1)
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(len(means)), 0))
    found: NDArray[np.float64] = means[last]
    return np.where(np.isnan(found), np.nanmax(means), found)


def _users(data: Dataset, shown: pa.Table, keys: Sequence[tuple[str, str]]) -> list[str]:
    """What is known of the user of each page of the test part, in their order."""
    before = shown.filter(pc.not_equal(shown["split"], "test"))
    known = set(before["user_id"].to_pylist())
    for part in ("train", "dev"):
        known |= set(data.of("sequences", part)["user_id"].to_pylist())
    of_page = dict(zip(keys, shown["user_id"].to_pylist(), strict=True))
    users = [user for (split, _), user in of_page.items() if split == "test"]
    return ["anonymous" if not u else "returning" if u in known else "new" for u in users]
