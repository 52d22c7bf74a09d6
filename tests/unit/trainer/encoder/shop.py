"""A shop of six products with a few judgments."""

from typing import Any

import pyarrow as pa

from trainer.dataset import EXAMPLES, ITEMS, QUERIES, Dataset, Description

PRODUCTS = [
    ("1", "red kettle", "Bosch"),
    ("2", "blue kettle", "Bosch"),
    ("3", "teapot", ""),
    ("4", "laptop", "Dell"),
    ("5", "phone", ""),
    ("6", "笔记本电脑", "华为"),
]
JUDGED = [
    ("k", "1", 1.0, 1.0, "train"),
    ("k", "2", 0.67, 2.0, "train"),
    ("k", "3", 0.33, 1.0, "train"),
    ("k", "5", 0.0, 1.0, "train"),
    ("l", "4", 1.0, 1.0, "train"),
    ("n", "6", 1.0, 1.0, "dev"),
    ("n", "5", 0.0, 1.0, "dev"),
]
ASKED = [("k", "kettle", "train"), ("l", "laptop", "train"), ("n", "笔记本", "dev")]


def shop() -> Dataset:
    items = [
        {"item_id": n, "title": title, "text": f"{title} {brand}", "brand": brand, "category": "",
         "language": "", "price": None}
        for n, title, brand in PRODUCTS
    ]  # fmt: skip
    queries = [
        {"query_id": n, "text": text, "language": "", "split": split, "segment": ""}
        for n, text, split in ASKED
    ]
    examples: list[dict[str, Any]] = [
        {"query_id": query, "item_id": item, "label": label, "weight": weight,
         "source": "judgment", "negative": "", "split": split}
        for query, item, label, weight, split in JUDGED
    ]  # fmt: skip
    return Dataset(
        Description(source="test", created="2026-01-01T00:00:00Z"),
        items=pa.Table.from_pylist(items, ITEMS),
        queries=pa.Table.from_pylist(queries, QUERIES),
        examples=pa.Table.from_pylist(examples, EXAMPLES),
    )
