"""Recommendations through the running system: is the next thing that a user bought among the first
ten, and among all that were found, by how candidates are recalled?

Needs the running stack of `neuralrank up`, and `games_users_en` (evaluation only). What serves is
asked: a personal ranker in service (`neuralrank train personal --histories`) ranks, and says what
users had together.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from opensearchpy import OpenSearch, helpers
from tqdm import tqdm

from bench.candidates import DATA
from bench.report import Report, percentiles
from indexer import Catalogue, index_catalogue
from neuralrank.cli.results import Page, ask
from neuralrank.encoder import Encoder
from neuralrank.errors import Unavailable
from neuralrank.opensearch import connect
from neuralrank.registry import Registry
from neuralrank.settings import Settings, load_settings
from opensearch_config import product_index

__all__ = ["run"]

_SET: Final = DATA / "games_users_en"
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
    targets = dict(_rows(_SET / "next_item.dev.tsv"))
    users = np.random.default_rng(7).permutation(sorted(targets))[:_USERS].tolist()
    histories = dict(_rows(_SET / "histories.tsv.gz"))
    with closing(connect(settings, timeout=120.0)) as client:
        _index(client, settings)
        try:
            _push(client, {user: histories[user].split() for user in users})
            rows, bundles = _ask_all(client, {user: targets[user] for user in users})
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


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    packed = path.read_bytes()
    text = gzip.decompress(packed) if path.suffix == ".gz" else packed
    for line in text.decode().splitlines():
        user, _, said = line.partition("\t")
        yield user, said


def _index(client: OpenSearch, settings: Settings) -> None:
    encoder = Encoder.load(Registry(settings.registry_path).get("multilingual-e5-small"))
    with TemporaryDirectory() as folder:
        index_catalogue(
            client,
            Catalogue(_SET / "catalogue.jsonl.gz"),
            _INDEX,
            product_index(encoder.ref, encoder.dimensions),
            encoder,
            Path(folder) / "rejects.jsonl",
            keep=0,
        )


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
    ranks: dict[str, list[int]] = {way: [] for way in _WAYS}
    times: dict[str, list[float]] = {way: [] for way in _WAYS}
    bundles: set[str] = set()
    for user, target in tqdm(targets.items(), unit="user", disable=None):
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
            **_measures(np.array(ranks[way])),
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
        if page.reranked and not page.degraded:
            return page
    raise Unavailable(f"User {user} was not served as usual: {json.dumps(page.report)}")


def _measures(ranks: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    """Of one relevant item a user, ranks from 0."""
    best = ranks < _BEST
    return {
        "HitRate@10": round(float(best.mean()), 4),
        "nDCG@10": round(float(np.where(best, 1 / np.log2(2.0 + ranks), 0.0).mean()), 4),
        "found": round(float((ranks < _ALL).mean()), 4),
    }
