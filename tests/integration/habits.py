"""A made-up shop with a habit that content does not say: who looks at the first of a pair goes on
to the second."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any

__all__ = ["OF_A_KIND", "catalogue", "event", "habits", "item"]

PAIRS = {"kettle": "tea", "camera": "tripod"}
KINDS = {
    "kettle": "electric kettle {}, stainless steel",
    "tea": "green tea leaves {}, loose",
    "camera": "digital camera {}, 24 megapixels",
    "tripod": "aluminium tripod {}, foldable",
}
OF_A_KIND = 8


def item(kind: str, number: int) -> str:
    return f"{kind}-{number}"


def catalogue() -> list[dict[str, Any]]:
    return [
        {"id": item(kind, n), "title": title.format(n), "price": 20.0}
        for kind, title in KINDS.items()
        for n in range(OF_A_KIND)
    ]


def event(user: str, query_id: str, action: str, name: str, place: int, at: datetime) -> Any:
    return "ubi_events", {
        "user_id": user, "client_id": f"logged-{user}", "query_id": query_id,
        "action_name": action, "timestamp": at.isoformat(), "user_query": "",
        "event_attributes": {"object": {"object_id": name}, "position": {"ordinal": place}},
    }  # fmt: skip


def habits(begin: datetime, apart: timedelta, users: Iterable[int]) -> list[Any]:
    """UBI documents: each user views two of a kind after a search for it, and then buys what goes
    with it after a search that says nothing.

    Args:
        apart: from one user to the next; the second search comes after a third of it.
    """
    chance = Random(4)
    documents: list[Any] = []

    def page(user: str, text: str, shown: list[str], chosen: list[str], at: datetime) -> None:
        name = f"logged-{at.isoformat()}"
        asked = {"client_id": f"logged-{user}", "user_id": user, "query_id": name}
        stamp = {"timestamp": at.isoformat(), "user_query": text}
        documents.append(("ubi_queries", asked | stamp))
        for place, one in enumerate(shown, start=1):
            documents.append(event(user, name, "impression", one, place, at))
        for place, one in enumerate(chosen, start=1):
            acted = at + place * apart / 10
            documents.append(event(user, name, "click", one, shown.index(one) + 1, acted))

    for turn, number in enumerate(users):
        kind = list(PAIRS)[number % 2]
        user, at = f"trained-{number}", begin + turn * apart
        own = [item(kind, n) for n in chance.sample(range(OF_A_KIND), 4)]
        page(user, f"{kind} for home {number % 9}", own, own[:2], at)
        mixed = [item(other, chance.randrange(OF_A_KIND)) for other in KINDS]
        chance.shuffle(mixed)
        liked = [one for one in mixed if one.startswith(PAIRS[kind])]
        page(user, f"present number {number % 30}", mixed, liked, at + apart / 3)
    return documents
