"""Pages that were shown, from logs: who saw what where, and what came of it.

As `neuralrank.judging.pages` has it: what stood on a page are the items of its impression events at
their position.ordinal (without one: where query_response_hit_ids has them), and without such events
query_response_hit_ids, of all documents of its query_id (`places_listed`). Each item counts once on
a page, where it was first. Places beyond the 500th are none: they are counted and left out.

A page belongs to who clicked or bought on it. Its query often names the device alone, as
OpenSearch's UBI plugin writes it, and all that is known of a signed-in user would be lost.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow.compute as pc

from neuralrank.judging import BEYOND, LAST_PLACE, places_listed, query_key, zero_based
from trainer.feedback import Logs

__all__ = ["OUTCOMES", "Page", "read_pages"]

_IMPRESSION: Final = "impression"
# What a user did with an item, and what it says: who buys means it more than who clicks.
OUTCOMES: Final[Mapping[str, int]] = {"click": 1, "add_to_cart": 2, "purchase": 3}


@dataclass
class Page:
    """What one user saw for one query, or, without a text, was recommended."""

    page_id: str
    time: int  # ms since 1970
    user: str  # "": nobody known
    text: str
    positions: dict[str, int] = field(default_factory=dict)  # item → from 1
    outcomes: dict[str, int] = field(default_factory=dict)  # item → the highest of OUTCOMES

    @property
    def key(self) -> str:
        """Which query it is of, whatever its case and spaces."""
        return query_key(self.text)


def read_pages(logs: Logs, known: set[str], skipped: Counter[str]) -> list[Page]:
    """All pages of which is known what stood on them, in order of time; recommendations too.

    Args:
        known: the items that there are; others are left out.
        skipped: is told what took no part, and how often.
    """
    pages: dict[str, Page] = {}
    lists: dict[str, list[list[str]]] = defaultdict(list)
    for row in logs.queries.select(["query_id", "time", "user", "user_query", "hits"]).to_pylist():
        page = pages.setdefault(
            row["query_id"], Page(row["query_id"], row["time"], row["user"], row["user_query"])
        )
        page.user, page.text = page.user or row["user"], page.text or row["user_query"]
        lists[row["query_id"]].append(row["hits"] or [])
    listed = {name: places_listed(hits) for name, hits in lists.items()}
    from_zero = _from_zero(logs)
    done: list[Mapping[str, Any]] = []
    # Who did something on a page first, by its query_id.
    acted: dict[str, str] = {}
    for row in _acts(logs):
        page = pages.setdefault(
            row["query_id"], Page(row["query_id"], row["time"], row["user"], row["user_query"])
        )
        page.user, page.text = page.user or row["user"], page.text or row["user_query"]
        if row["action"] != _IMPRESSION:
            if row["user"]:
                acted.setdefault(row["query_id"], row["user"])
            done.append(row)
            continue
        place = row["ordinal"]
        if place is not None:
            place += row["application"] in from_zero
        elif (at := listed.get(row["query_id"], {}).get(row["item_id"])) is not None:
            place = at + 1
        if place is None or place < 1:
            skipped["impressions without a place"] += 1
        elif place > LAST_PLACE:
            skipped[BEYOND] += 1
        else:
            page.positions.setdefault(row["item_id"], place)
    for name, user in acted.items():
        pages[name].user = user
    for name, places in listed.items():
        page = pages[name]
        if not page.positions:
            page.positions = {item: at + 1 for item, at in places.items() if at < LAST_PLACE}
            if beyond := len(places) - len(page.positions):
                skipped[BEYOND] += beyond
    for row in done:
        page = pages[row["query_id"]]
        if row["item_id"] in page.positions:
            value = max(OUTCOMES[row["action"]], page.outcomes.get(row["item_id"], 0))
            page.outcomes[row["item_id"]] = value
        else:
            skipped["acts on what was not shown"] += 1
    return sorted(_usable(pages.values(), known, skipped), key=lambda page: page.time)


def _acts(logs: Logs) -> Iterator[Mapping[str, Any]]:
    """Events of a query that a page is made of."""
    names = ["query_id", "time", "user", "user_query", "action", "item_id", "ordinal"]
    for batch in logs.events.select([*names, "application"]).to_batches():
        for row in batch.to_pylist():
            if row["query_id"] and (row["action"] == _IMPRESSION or row["action"] in OUTCOMES):
                yield row


def _from_zero(logs: Logs) -> set[str]:
    """As `neuralrank.judging.zero_based`."""
    shown = logs.events.filter(pc.equal(logs.events["action"], _IMPRESSION))
    zeros, ones = (
        Counter(shown.filter(pc.equal(shown["ordinal"], place))["application"].to_pylist())
        for place in (0, 1)
    )
    return zero_based(zeros, ones)


def _usable(pages: Iterable[Page], known: set[str], skipped: Counter[str]) -> Iterator[Page]:
    for page in pages:
        for item in [item for item in page.positions if item not in known]:
            skipped["items that are not in the catalogue"] += 1
            del page.positions[item]
            page.outcomes.pop(item, None)
        if page.positions:
            yield page
        else:
            skipped["pages of which is not known what stood on them"] += 1
