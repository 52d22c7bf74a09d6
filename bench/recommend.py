"""Recommendations through the running system: is the next thing that a user bought among the first
ten, and among all that were found, by how candidates are recalled?

Needs the running stack of `neuralrank up`, the extra `train`, and `games_users_en` (evaluation
only). What serves is asked: a personal ranker in service (`neuralrank train personal --histories`)
ranks, and says what users had together.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import numpy as np
from opensearchpy import OpenSearch, helpers

from bench.candidates import DATA
from bench.latency import make_index
from bench.report import Report, percentiles
from neuralrank.errors import Unavailable
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import Page, ask
from neuralrank.progress import tracked
from neuralrank.settings import load_settings

__all__ = ["run"]

_SET: Final = DATA / "games_users_en"
_CATALOGUE: Final = _SET / "catalogue.jsonl.gz"
_INDEX: Final = "bench-recommend"
_EVENTS: Final = "ubi_events"
_USER: Final = "bench-recommend-"
_USERS: Final = 1_000
_BEST: Final = 10
# All candidates: those of the window and the neighbours.
_ALL: Final = 200
_WAYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "the mean": {"interests": 1, "collaborative": False},
    "interests": {"collaborative": False},
    "interests and what others did": {},
}
# A page that came late is no page to be judged.
_ATTEMPTS: Final = 5
_PATIENT: Final = {"deadline_ms": 4_000}
_NEWEST_MS: Final = 1_790_000_000_000
_DAY_MS: Final = 86_400_000


def run() -> None:
    """Prints and writes the report."""
    settings = load_settings()
    histories, targets = _users()
    with closing(connect(settings, timeout=120.0)) as client:
        make_index(client, settings, _CATALOGUE, _INDEX)
        try:
            _push(client, histories)
            rows, bundles = _ask_all(client, targets)
        finally:
            _forget(client)
            client.indices.delete(index=f"{_INDEX}-*")
    Report(
        "recommend",
        "Recommendations: the next game of a user",
        rows,
        f"{_USERS:,} users of games_users_en, titles alone, 16,859 games; 100 neighbours and 100 "
        "games that nobody chose are candidates, what the user has bought is left out. `found`: "
        "the next one is among the candidates. Whole stack, one caller; the first time that a user "
        f"is asked for is not timed. Ranked by {', '.join(sorted(bundles))}.",
    ).publish()


def _users() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Of some users what they bought, oldest first, and what they bought next."""
    from trainer.dataset.items import read_items
    from trainer.personal import read_histories, read_targets

    items, _ = read_items(_CATALOGUE)
    known = read_histories(_SET / "histories.tsv.gz", items["item_id"].to_pylist())
    places, next_ones = read_targets(_SET / "next_item.dev.tsv", known)
    targets = {
        known.users[place]: known.items[item]
        for place, item in zip(places, next_ones.tolist(), strict=True)
    }
    users = np.random.default_rng(7).permutation(sorted(targets))[:_USERS].tolist()
    histories = {
        user: [known.items[item] for item in known.rows[known.places[user]]] for user in users
    }
    return histories, {user: targets[user] for user in users}


def _push(client: OpenSearch, histories: Mapping[str, Sequence[str]]) -> None:
    """What each user bought, a day apart."""
    helpers.bulk(
        client,
        (
            {
                "_index": _EVENTS,
                "_id": f"{_USER}{user}-{number}",
                "user_id": f"{_USER}{user}",
                "action_name": "purchase",
                "timestamp": _NEWEST_MS - (len(bought) - number) * _DAY_MS,
                "event_attributes": {"object": {"object_id": item}},
            }
            for user, bought in histories.items()
            for number, item in enumerate(bought)
        ),
        refresh=True,
    )


def _forget(client: OpenSearch) -> None:
    client.delete_by_query(
        index=_EVENTS,
        body={"query": {"prefix": {"user_id": _USER}}},
        params={"refresh": "true", "conflicts": "proceed"},
    )


def _ask_all(
    client: OpenSearch, targets: Mapping[str, str]
) -> tuple[list[dict[str, Any]], set[str]]:
    """A row for each way, all asked in turn for each user; and who ranked."""
    from trainer.personal.measure import Guessed

    ranks: dict[str, list[int]] = {way: [] for way in _WAYS}
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    bundles: set[str] = set()
    for user, target in tracked(list(targets.items()), "Asking for users"):
        _page(client, user, {}, _BEST)
        for way, options in _WAYS.items():
            times[way].append(_page(client, user, options, _BEST).took_ms)
            page = _page(client, user, options, _ALL)
            bundles.update(page.report["bundles"])
            shown = [hit.id for hit in page.hits]
            ranks[way].append(shown.index(target) if target in shown else _ALL)
    return [
        {
            "recalled by": way,
            **Guessed.of(np.array(ranks[way])).summary(),
            "found": round(float(np.mean(np.array(ranks[way]) < _ALL)), 6),
            **percentiles(times[way]),
        }
        for way in _WAYS
    ], bundles


def _page(client: OpenSearch, user: str, way: Mapping[str, Any], size: int) -> Page:
    """What `neuralrank recommend` shows."""
    options = {
        **_PATIENT,
        **way,
        "user_id": f"{_USER}{user}",
        "filters": {"exclude_purchased": True},
    }
    for _ in range(_ATTEMPTS):
        page = ask(client, _INDEX, {"match_all": {}}, options, size=size)
        # All candidates are asked for, and no page is longer than what filters have looked at.
        if page.reranked and {note["reason"] for note in page.degraded} <= {"partial_window"}:
            return page
    raise Unavailable(f"User {user} was not served as usual: {json.dumps(page.report)}")
