"""Milliseconds for a query and 100 items, and what is stored of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.late_interaction.contenders import KEPT, SMALL, Contenders, late_name
from bench.report import Report, repeat
from neuralrank.catalogue.product import Product, passage
from neuralrank.catalogue.reading import Catalogue
from sidecar.settings import SidecarSettings

__all__ = ["report"]

# The query, and the example whose first products it is compared with.
_TIMED: Final = {
    "English": ("kindle paperwhite case", "esci/catalogue.jsonl.gz"),
    "Chinese": ("婴儿配方奶粉 3段", "goods_zh/catalogue.jsonl.gz"),
}
_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
_ITEMS: Final = 100
_ROUNDS: Final = 15


def report(contenders: Contenders) -> None:
    """Prints and writes it."""
    Report(
        "late_interaction_time",
        f"A query and {_ITEMS} items",
        [row for language in _TIMED for row in _rows(language, contenders)],
        "Tokenising included; late interaction has the items' vectors already, and of its time "
        f"'query' is the query's own. Taking turns, median of {_ROUNDS}. 'bytes an item': stored.",
    ).publish()


def _rows(language: str, contenders: Contenders) -> list[dict[str, Any]]:
    late, (query, catalogue) = contenders.late, _TIMED[language]
    rows = Catalogue(_EXAMPLES / catalogue).rows()
    characters = SidecarSettings().rerank_characters
    texts = [
        passage(Product.from_row(row.value))[:characters]
        for row, _ in zip(rows, range(_ITEMS), strict=False)
    ]
    stored = {late_name(kept): late.items(texts, kept) for kept in KEPT}
    work: dict[str, Callable[[], Any]] = {
        name: lambda model=model: model.score(query, texts)
        for name, model in contenders.models.items()
    }
    work |= {
        name: lambda items=items: late.score(late.query(query), items)
        for name, items in stored.items()
    }
    work["query"] = lambda: late.query(query)
    work["items"] = lambda: late.items(texts, KEPT[0])
    median = {name: float(np.median(taken)) for name, taken in repeat(work, _ROUNDS).items()}
    size = {name: sum(item.nbytes for item in items) / len(items) for name, items in stored.items()}
    return [
        {
            "what": name,
            "language": language,
            "ms": round(median[name], 2),
            "query": round(median["query"], 2) if name in size else None,
            "times faster": round(median[SMALL] / median[name], 1),
            "bytes an item": round(size[name]) if name in size else None,
            "ms to make an item": round(median["items"] / len(texts), 2) if name in size else None,
        }
        for name in (*contenders.models, *size)
    ]
