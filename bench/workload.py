"""What the load consists of: products of the ESCI example, queries made of their words, users."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scripted import INDEX, Shop
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import Product, document
from neuralrank.models import add_defaults
from neuralrank.settings import load_settings
from neuralrank.v1 import ranking_pb2 as pb

__all__ = ["CATALOGUE", "default_registry", "make_requests", "make_shop"]

CATALOGUE = Path(__file__).parent.parent / "examples/esci/catalogue.jsonl.gz"
# When the first of each user's events was, since the Unix epoch.
_NOW_MS = 1_780_000_000_000
_MINUTE_MS = 60_000
_USERS = 200
# As many as the plugin sends of a page by default.
_CANDIDATES = 100


def default_registry() -> str:
    """Where the stack's models are; the default ones are made where there are none.

    Raises:
        Unavailable: pip can't download them.
    """
    path = load_settings().registry_path
    registry = Registry(path)
    if not registry.refs():
        add_defaults(registry, print)
    return path


def make_shop(encoder: str, dimensions: int, *, products: int = 2_000) -> Shop:
    """The first products of the example, and users who looked at some of them.

    Args:
        encoder: name@hash that the index is said to hold vectors of.
    """
    with gzip.open(CATALOGUE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(products), lines, strict=False)]
    items = {row["id"]: document(Product.from_row(row)) for row in rows}
    shop = Shop(items, encoder, dimensions)
    chance = random.Random(0)
    names = list(items)
    for user in range(_USERS):
        for minute, name in enumerate(chance.sample(names, 8)):
            action = "purchase" if minute == 7 else "view"
            shop.add(f"user-{user}", action, name, _NOW_MS + minute * _MINUTE_MS)
    return shop


def make_requests(shop: Shop, count: int, *, seed: int = 1) -> Sequence[pb.RankRequest]:
    """Requests as the plugin sends them: ids, versions and retrieval scores; the rest is in the
    index. No two have the same query, every second one comes from a user who is known.
    """
    chance = random.Random(seed)
    names = list(shop.items)
    numbers = {name: number for number, name in enumerate(names)}
    requests = []
    for place in range(count):
        chosen = chance.sample(names, _CANDIDATES)
        request = pb.RankRequest(query=_query(shop.items[chosen[0]], chance, place), index=INDEX)
        if place % 2:
            request.user.id = f"user-{chance.randrange(_USERS)}"
        for rank, name in enumerate(chosen):
            request.candidates.add(
                id=name, retrieval_score=30.0 / (1 + rank), version=numbers[name]
            )
        requests.append(request)
    return requests


def _query(item: Any, chance: random.Random, number: int) -> str:
    """Two to five words of a title, and a number that no other query has."""
    words = str(item["title"]).split()
    start = chance.randrange(max(1, len(words) - 5))
    return " ".join([*words[start : start + chance.randint(2, 5)], str(number)])
