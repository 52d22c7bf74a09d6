"""A small dataset with everything that evaluation reads: judged queries in two languages, pages of
users old and new. A ranker of the letters of a text stands in for a model where order matters."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Bundle
from tests.unit.conftest import tiny_bundle
from trainer.dataset import (
    EXAMPLES,
    IMPRESSIONS,
    ITEMS,
    QUERIES,
    SEQUENCES,
    Dataset,
    Description,
    Propensities,
)
from trainer.evaluation.held_back import Item, catalogue
from trainer.evaluation.scoring import load_scorer

LOOK = (1.0, 0.5, 0.25)
# id: title, brand, category
ITEM = {
    "phone-1": ("phone red", "苹果", "Phones > Smart"),
    "phone-2": ("phone blue", "华为", "Phones > Smart"),
    "phone-3": ("case for phone", "", "Cases"),
    "pc-1": ("电脑 笔记本", "苹果", "Computers"),
    "pc-2": ("笔记本 本", "华为", "Computers"),
    "pc-3": ("手机", "华为", "Phones > Smart"),
}
# id: text, language, part, segment, grades of three
QUERY = {
    "t1": ("phone", "en", "train", "head", {"phone-1": 3, "phone-3": 0}),
    "d1": ("red phone", "en", "dev", "head", {"phone-1": 3, "phone-2": 1, "phone-3": 0}),
    "e1": ("blue phone", "en", "test", "head", {"phone-1": 1, "phone-2": 3, "phone-3": 0}),
    "e2": ("phone case", "en", "test", "tail", {"phone-3": 3, "phone-2": 0}),
    "e3": ("电脑", "zh", "test", "tail", {"pc-1": 3, "pc-2": 2, "pc-3": 0}),
    "e4": ("nothing", "en", "test", "tail", {"pc-1": 0, "pc-2": 0}),
}
FIFTH = {"query_id": "e5", "text": "red phone case"}


def dataset(**tables: list[dict[str, Any]]) -> Dataset:
    """The shop, or the same with other rows in some tables."""
    rows: dict[str, list[dict[str, Any]]] = {
        "items": [
            {
                "item_id": item,
                "title": title,
                "text": f"{title}\n{brand}",
                "brand": brand,
                "category": category,
                "language": "en",
                "price": None,
            }
            for item, (title, brand, category) in ITEM.items()
        ],
        "queries": [
            {"query_id": q, "text": text, "language": language, "split": split, "segment": segment}
            for q, (text, language, split, segment, _) in QUERY.items()
        ],
        "examples": [
            {
                "query_id": q,
                "item_id": item,
                "label": grade / 3,
                "weight": 1.0,
                "source": "judgment",
                "negative": "",
                "split": split,
            }
            for q, (_, _, split, _, grades) in QUERY.items()
            for item, grade in grades.items()
        ],
        "sequences": [sequence("old", "phone-1", "phone-1", "phone-3")],
        "impressions": [
            *page("t1", "train", "p0", "old", "phone-3 phone-1", "phone-1"),
            *page("e1", "test", "p1", "old", "phone-3 phone-1 phone-2", "phone-2"),
            *page("e1", "test", "p2", "young", "phone-3 phone-2 phone-1", "phone-2"),
            *page("e1", "test", "p3", "", "phone-3 phone-2 phone-1", ""),
        ],
    } | tables
    schemas = (ITEMS, QUERIES, EXAMPLES, SEQUENCES, IMPRESSIONS)
    made = {
        name: pa.Table.from_pylist(rows[name], schema)
        for name, schema in zip(
            ("items", "queries", "examples", "sequences", "impressions"), schemas, strict=True
        )
    }
    return Dataset(
        Description(
            source="a test",
            created="1970-01-05T00:00:00Z",
            propensities=Propensities(estimator="known", values=LOOK),
        ),
        **made,
    )


def page(
    query: str, split: str, name: str, user: str, items: str, clicked: str
) -> list[dict[str, Any]]:
    return [
        {
            "query_id": query,
            "user_id": user,
            "time": 1,
            "page_id": name,
            "item_id": item,
            "position": place,
            "clicked": item in clicked.split(),
            "propensity": LOOK[place - 1],
            "split": split,
        }
        for place, item in enumerate(items.split(), start=1)
    ]


def sequence(user: str, *items: str) -> dict[str, Any]:
    times = list(range(len(items)))
    actions = ["click"] * len(items)
    return {
        "user_id": user,
        "items": list(items),
        "actions": actions,
        "times": times,
        "split": "train",
    }


def untracked(things: Sequence[str], what: str) -> Iterable[str]:
    assert what
    return things


def as_ranked_by(bundle: Bundle) -> Dataset:
    """The shop, where the grades of the test part are a bundle's own order. One query more: the
    gate asks for five."""
    items = catalogue(dataset())
    scorer = load_scorer(bundle)
    shop = dataset(impressions=[])
    queries, rows = shop.queries.to_pylist(), shop.examples.to_pylist()
    queries.append(next(row for row in queries if row["query_id"] == "e1") | FIFTH)
    rows += [row | {"query_id": "e5"} for row in rows if row["query_id"] == "e1"]
    for query in queries:
        mine = [row for row in rows if row["query_id"] == query["query_id"]]
        scores = scorer.score(query["text"], [items[r["item_id"]] for r in mine])
        for place, row in zip(np.argsort(np.argsort(scores)), mine, strict=True):
            row["label"] = float(place) / 3
    return dataset(queries=queries, examples=rows, impressions=[])


class ByWords:
    """Scores by the share of a query's words that a title has, less where `but` is in the id."""

    def __init__(self, folder: Path, but: str = "") -> None:
        self.bundle: Bundle = tiny_bundle(folder, "cross_encoder", parent=f"but {but}")
        self._but = but

    def score(self, query: str, items: Sequence[Item]) -> NDArray[np.float64]:
        words = query.casefold().split()
        return np.array(
            [
                np.mean([word in item.title for word in words])
                - (2.0 if self._but and self._but in item.id else 0.0)
                for item in items
            ]
        )

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(scores, 0.0, 1.0)
