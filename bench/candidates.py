"""Candidates of the data sets as a search finds them, recorded once from a real OpenSearch.

Both legs as the plugin joins them: 100 hits of the product query with their scores, then those of
100 neighbours of the query's vector that are not among them. The recording stays in the home
folder: some of the sets may not be copied.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opensearchpy import OpenSearch

from bench.latency import index_by
from neuralrank.catalogue.reading import Catalogue
from neuralrank.cli.index import encoder_of, load_encoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import NotFound
from neuralrank.evaluation import Judged, Qrels, judge, read_qrels, read_queries
from neuralrank.files.whole import write_whole
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, ask
from neuralrank.settings import Settings
from opensearch_config import lexical_query

__all__ = ["DATA", "Found", "Recorded", "folder_of", "index_name", "judged_by_query", "recorded"]

# Beside the checkout; not needed by anything but benchmarks and tests.
DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
_HITS: Final = 100
# As the plugin: HNSW finds few of the last neighbours.
_EXPLORED: Final = 400


@dataclass(frozen=True)
class Found:
    """One query: its text, and candidates with the score of the lexical leg, None for those that
    only the vectors found."""

    text: str
    candidates: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Recorded:
    """A data set's judged queries with what was found for them, and the encoder, name@hash, whose
    neighbours are among it."""

    queries: dict[str, Found]
    qrels: Qrels
    encoder: str = ""


def judged_by_query(orders: Mapping[str, Sequence[str]], data: Recorded) -> Judged:
    """Metrics of a set's orders."""
    run = {
        query: {id_: -float(place) for place, id_ in enumerate(order)}
        for query, order in orders.items()
    }
    return judge(data.qrels, run)


def folder_of(name: str) -> Path:
    """Where a data set lies.

    Raises:
        NotFound: it is not there.
    """
    folder = DATA / name
    if not folder.is_dir():
        raise NotFound(
            f"There is no {folder}: this benchmark needs the shared data beside the checkout."
        )
    return folder


def index_name(name: str) -> str:
    return f"bench_{name}"


def recorded(name: str, settings: Settings, *, indexed: bool = True) -> Recorded:
    """The recording of a set, made if there is none of this encoder yet.

    Args:
        indexed: whether the index has to be there, too, for a sidecar that ranks by id. Without it,
            a recording that is there is all that is needed.

    Raises:
        NotFound: the data is not there.
        Unavailable: OpenSearch does not answer.
    """
    folder = folder_of(name)
    qrels = read_qrels(folder / "qrels.dev.tsv")
    texts = read_queries(folder / "queries.dev.tsv")
    catalogue = folder / "catalogue.jsonl.gz"
    encoder = load_encoder(settings, None, Catalogue(catalogue).titles())
    file = settings.home / "bench" / f"candidates-{name}.json"
    known = _read(file)
    if indexed or known.get("encoder") != encoder.ref:
        with closing(connect(settings, timeout=120.0)) as client:
            index = index_name(name)
            if encoder_of(client, index) != encoder.ref:
                index_by(encoder, client, settings, catalogue, index)
                client.indices.refresh(index=index)
                file.unlink(missing_ok=True)
                known = {}
            if known.get("encoder") != encoder.ref:
                queries = {
                    query: _search(client, encoder, index, text)
                    for query, text in texts.items()
                    if query in qrels
                }
                known = {"encoder": encoder.ref, "queries": queries}
                write_whole(file, json.dumps(known, ensure_ascii=False))
    return Recorded(
        {
            query: Found(row["text"], tuple((id_, score) for id_, score in row["candidates"]))
            for query, row in known["queries"].items()
        },
        {query: qrels[query] for query in known["queries"]},
        encoder.ref,
    )


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _search(client: OpenSearch, encoder: Encoder, index: str, text: str) -> dict[str, Any]:
    lexical = ask(client, index, lexical_query(text), size=_HITS, pipeline=NO_PIPELINE)
    vector = encoder.encode_queries([text])[0].tolist()
    knn = {"knn": {"text_vector": {"vector": vector, "k": _EXPLORED}}}
    near = ask(client, index, knn, size=_HITS, pipeline=NO_PIPELINE)
    found = {hit.id: hit.score for hit in lexical.hits}
    return {
        "text": text,
        "candidates": [
            *found.items(),
            *((hit.id, None) for hit in near.hits if hit.id not in found),
        ],
    }
