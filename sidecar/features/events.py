"""A user's events: what OpenSearch is asked for, and what its answers say.

Items are read from the documents as they were written, so that no mapping can hide them. Only what
was bought or blocked is counted by item, where the mapping can tell items apart.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Final

from neuralrank.personal.inputs import says_most
from neuralrank.text.cleaning import beginning
from neuralrank.ubi import BLOCKS, ITEM_PATH, item_ids, user_events
from sidecar.domain import Interaction
from sidecar.features.answers import whole
from sidecar.sizes import MAX_QUERY

__all__ = [
    "as_steps",
    "by_event",
    "by_item",
    "interactions",
    "lasting",
    "lasting_events",
    "recent",
]

# How far a clock may be ahead of ours. An event from later than that was stamped by one that is
# wrong: beside it, as the user's newest, whatever the user really did would count nothing.
_AHEAD_MS: Final = 86_400_000
# How many events are read for each that is kept, so that what a player or a page repeats every ten
# seconds for an hour pushes out nothing; and how many at most, since each costs its reading.
_REPEATS: Final = 5
_MOST_READ: Final = 1_000
# Items bought, and items blocked, that filters know of.
_FOREVER: Final = 1_000
_PURCHASES: Final = ("purchase",)
# OpenSearch's status for a search that a mapping does not allow.
_NOT_ALLOWED: Final = 400

# Items bought, items blocked.
_Lasting = tuple[frozenset[str], frozenset[str]]
_Json = dict[str, Any]


def recent(user: str, most: int, now: int) -> _Json:
    """The search for what a user did last; see `interactions`."""
    asked = {
        "bool": {
            "filter": [{"exists": {"field": "user_query"}}],
            # Lenient: of a number OpenSearch would refuse to be asked whether it is empty.
            "must_not": [{"match": {"user_query": {"query": "", "lenient": True}}}],
        }
    }
    tells = {"bool": {"should": [{"exists": {"field": ITEM_PATH}}, asked]}}
    ahead = {"timestamp": {"gt": now + _AHEAD_MS, "format": "epoch_millis"}}
    return _search(
        user,
        max(most, min(_REPEATS * most, _MOST_READ)),
        must_not=[
            {"terms": {"action_name": ["impression", *BLOCKS]}},
            # In numbers: so it is read whatever the mapping of times is.
            {"range": ahead},
        ],
        # First, so that a hundred pages seen without an item don't push out what the user likes. No
        # filter: a mapping that leaves items out would leave nothing of anybody.
        should=[{"constant_score": {"filter": tells}}],
    )


def interactions(hits: Sequence[Mapping[str, Any]], most: int, now: int) -> tuple[Interaction, ...]:
    """What a user did, newest first; what is stamped later than now counts as now, and what tells
    of no item and no query is left out. What was done with one item in a row is one."""
    told = chain.from_iterable(_told(hit, now) for hit in hits)
    # One more than are kept, which what comes last may push out; reading them all would take five
    # times as long.
    found = list(islice(as_steps(told), most + 1))
    # Events that tell of nothing come last, and may be newer; a mapping may say so of any.
    found.sort(key=lambda row: -row.timestamp_ms)
    return tuple(found[:most])


def as_steps(rows: Iterable[Interaction]) -> Iterator[Interaction]:
    """What a user did, newest first, with what was done with one item in a row as one: the one that
    says most, as in `neuralrank.personal.inputs.steps`, of the newest's time."""
    last: Interaction | None = None
    for row in rows:
        if last is not None and row.item_id and row.item_id == last.item_id:
            last = replace(last, action=says_most(row.action, last.action))
            continue
        if last is not None:
            yield last
        last = row
    if last is not None:
        yield last


def _told(hit: Mapping[str, Any], now: int) -> Iterator[Interaction]:
    """Of each item of an event, or of its query."""
    source = hit.get("_source") or {}
    action = str(source.get("action_name") or "")
    query = beginning(str(source.get("user_query") or "")[:MAX_QUERY], MAX_QUERY)
    # The sort value is the timestamp in milliseconds, however the document spells it.
    at = min(max(0, int(hit["sort"][-1] or 0)), now)
    for item in item_ids(source) or ([""] if query else []):
        yield Interaction(item, action, at, query)


def lasting(user: str) -> _Json:
    """The search for what a user bought and blocked, which counts for ever however much came after
    it, item by item: who buys the same every day has bought other things, too. See `by_item`."""
    return {
        **lasting_events(user),
        # As hits come only those whose item the mapping leaves out.
        "post_filter": {"bool": {"must_not": [{"exists": {"field": ITEM_PATH}}]}},
        "aggs": {"bought": _items(_PURCHASES), "blocked": _items(BLOCKS)},
    }


def lasting_events(user: str) -> _Json:
    """The same event by event, whatever the mapping is. Blocks come first, of which none may be
    missing because somebody buys much. See `by_event`."""
    return _search(
        user,
        _FOREVER,
        filter=[{"terms": {"action_name": [*_PURCHASES, *BLOCKS]}}],
        should=[{"constant_score": {"filter": {"terms": {"action_name": [*BLOCKS]}}}}],
    )


def by_item(answer: Mapping[str, Any], index: str) -> _Lasting | None:
    """What the answer to `lasting` says; None where the mapping is of text, which can't be counted,
    or of numbers, which don't say how an id is spelt.

    Raises:
        Unavailable: as `whole`.
    """
    if "error" in answer and answer.get("status") == _NOT_ALLOWED:
        return None
    bought, blocked = by_event(whole(answer, index))
    counted = answer.get("aggregations")
    if counted is None:  # there is no index of events
        return bought, blocked
    keys = [
        [bucket["key"] for bucket in counted[name]["items"]["buckets"]]
        for name in ("bought", "blocked")
    ]
    if not all(isinstance(key, str) for of_one in keys for key in of_one):
        return None
    return bought.union(keys[0]), blocked.union(keys[1])


def by_event(hits: Sequence[Mapping[str, Any]]) -> _Lasting:
    """What the hits of `lasting_events` say."""
    sources = [hit.get("_source") or {} for hit in hits]
    bought, blocked = (
        frozenset(
            item
            for source in sources
            if source.get("action_name") in actions
            for item in item_ids(source)
        )
        for actions in (_PURCHASES, BLOCKS)
    )
    return bought, blocked


def _search(user: str, most: int, **clauses: list[Any]) -> _Json:
    """The first of a user's events by score, then the newest."""
    bool_query: _Json = {"filter": [], **clauses}
    bool_query["filter"] = [user_events(user), *bool_query["filter"]]
    return {
        "query": {"bool": bool_query},
        "size": most,
        "sort": ["_score", {"timestamp": {"order": "desc", "unmapped_type": "date"}}],
        "track_total_hits": False,
        "_source": ["action_name", "user_query", ITEM_PATH],
    }


def _items(actions: Sequence[str]) -> _Json:
    """The items of these actions, those of the newest events first. Several in one event are told
    apart, which `collapse` refuses."""
    terms = {
        "field": ITEM_PATH,
        "size": _FOREVER,
        "order": {"newest": "desc"},
        # Of one user's few events: not by numbering all items of the index first.
        "execution_hint": "map",
    }
    newest = {"newest": {"max": {"field": "timestamp"}}}
    return {
        "filter": {"terms": {"action_name": [*actions]}},
        "aggs": {"items": {"terms": terms, "aggs": newest}},
    }
