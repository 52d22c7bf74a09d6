"""One query through the whole stack at 100 candidates, split by part, on the ESCI example.

Needs the running stack of `neuralrank up`; the index `esci` is made when it is not there.
"""

from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
from opensearchpy import OpenSearch

from bench.report import Report, percentiles
from bench.workload import CATALOGUE
from indexer import Catalogue, index_catalogue
from neuralrank.cli.index import load_encoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, ask
from neuralrank.settings import Settings, load_settings
from opensearch_config import lexical_query, product_index

__all__ = ["INDEX", "make_index", "run", "spelled"]

INDEX = "esci"
# The first round is not counted.
_ROUNDS = 5
QUERIES = (
    "kindle paperwhite case", "queen memory foam mattress", "wireless earbuds", "office chair",
    "hdmi cable 10 ft", "dog bed large", "coffee maker", "gel pens", "yoga mat", "air fryer",
    "women running shoes", "usb c charger", "board games for adults", "shower curtain",
    "water bottle", "monitor stand", "lego star wars", "hand soap", "desk lamp", "baby monitor",
)  # fmt: skip


def run() -> None:
    """Prints and writes the report."""
    settings = load_settings()
    with closing(connect(settings, timeout=120.0)) as client:
        if not client.indices.exists(index=INDEX):
            make_index(client, settings, CATALOGUE, INDEX)
        _measure(client)


def make_index(client: OpenSearch, settings: Settings, catalogue: Path, name: str) -> None:
    """Indexes a catalogue, with vectors of the encoder that `neuralrank index` takes for it."""
    encoder = load_encoder(settings, None, Catalogue(catalogue).titles())
    index_by(encoder, client, settings, catalogue, name)


def index_by(
    encoder: Encoder, client: OpenSearch, settings: Settings, catalogue: Path, name: str
) -> None:
    """Indexes a catalogue, with vectors of an encoder."""
    index_catalogue(
        client,
        Catalogue(catalogue),
        name,
        product_index(encoder.ref, encoder.dimensions),
        encoder,
        settings.home / f"{name}.rejects.jsonl",
    )


def spelled(text: str, number: int) -> str:
    """The text with some of its first letters in capitals, others for each number: never asked
    before to the caches, the same words to the index."""
    letters = [place for place, letter in enumerate(text) if letter.isalpha()]
    capital = {place for bit, place in enumerate(letters) if number >> bit & 1}
    return "".join(
        letter.upper() if place in capital else letter for place, letter in enumerate(text)
    )


def _measure(client: OpenSearch) -> None:
    times: dict[str, list[float]] = defaultdict(list)
    read: list[int] = []
    for number in range(_ROUNDS):
        for text in QUERIES:
            query = lexical_query(spelled(text, 2 * number))
            plain = ask(client, INDEX, query, size=10, pipeline=NO_PIPELINE)
            wide = ask(client, INDEX, query, size=100, pipeline=NO_PIPELINE)
            full = ask(client, INDEX, query, size=10)
            seen = ask(client, INDEX, query, size=10)
            # Not the vector that the caches have by now.
            other = lexical_query(spelled(text, 2 * number + 1))
            hybrid = ask(client, INDEX, other, {"bundle": "none"}, size=10)
            if not number:
                continue
            times["no pipeline, 10 hits"].append(plain.took_ms)
            times["no pipeline, 100 hits"].append(wide.took_ms)
            times["recall with vectors + rank, no cross-encoder → 10"].append(hybrid.took_ms)
            times["the whole pipeline → 10"].append(full.took_ms)
            times["the same query again → 10"].append(seen.took_ms)
            for part, ms in full.report.get("took_ms", {}).items():
                times[f"  of it: {part} (as the plugin saw it)"].append(ms)
            for stage in full.report.get("stages", ()):
                times[f"    of rank: {stage['name']}"].append(stage["ms"])
                if stage["name"] == "rerank":
                    read.append(stage["candidates"])
    base = float(np.median(times["no pipeline, 10 hits"]))
    Report(
        "latency",
        f"One query through the whole stack, {len(QUERIES)} queries × {_ROUNDS - 1}",
        [
            {"what": name, **percentiles(ms), "ratio": round(float(np.median(ms)) / base, 2)}
            for name, ms in times.items()
        ],
        "Requests one after the other. Encode and the k-NN leg run beside the caller's own query: "
        "parts do not add up. The cross-encoder "
        f"read {np.mean(read) if read else 0:.1f} candidates on average.",
    ).publish()
