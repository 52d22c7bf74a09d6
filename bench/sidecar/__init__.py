"""The sidecar's figures, in one run, side by side, into `bench/results/sidecar.json`.

    python -m bench sidecar          all parts (make bench-sidecar)
    python -m bench.sidecar PART...  some of them: pairs, load, overhead, scaling

docs/bench.md says what each number means.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench import overhead
from bench.report import RESULTS, show, where_and_when, write_json
from bench.sidecar.gemm import operations, peak
from bench.sidecar.pairs import PairSet, read_sets
from bench.sidecar.peers import Measured, agreement, measure, peers
from bench.sidecar.service import measure_load, measure_scaling
from bench.sidecar.weights import make_weights
from bench.workload import default_registry
from neuralrank.settings import load_settings
from sidecar.settings import SidecarSettings

__all__ = ["PARTS", "run"]

_QUERIES: Final = 2
_CANDIDATES: Final = 100
_MAX_TOKENS: Final = 128
# The first round of each is not counted.
_ROUNDS: Final = 4
_LOAD_SECONDS: Final = 8.0
_REFERENCE: Final = "ONNX Runtime, one padded batch, fp32"
_OURS: Final = "neuralrank int8"


def _pairs() -> dict[str, Any]:
    """Points 1 and 2."""
    threads = os.cpu_count() or 1
    folder = load_settings().home / "bench"
    weights = make_weights(folder / "weights", _MAX_TOKENS)
    sets = read_sets(_QUERIES, _CANDIDATES, SidecarSettings().rerank_characters)
    before = peak(threads)
    contenders = peers(weights)
    measured = measure(
        contenders, sets, folder, rounds=_ROUNDS, threads=threads, max_tokens=_MAX_TOKENS
    )
    after = peak(threads)
    top = {precision: max(before[precision], after[precision]) for precision in before}
    work = {
        ours: {pairs.name: operations(weights.int8, pairs, ours=ours) for pairs in sets}
        for ours in (True, False)
    }
    rows = [_peer_row(peer.name, sets, measured, work[peer.ours], top) for peer in contenders]
    show(
        f"1. Cross-encoder, {_QUERIES} queries × {_CANDIDATES} candidates a set, {threads} threads",
        rows,
        "Pairs a second, medians of rounds in turn, tokenising included; same weights, same pairs, "
        f"at most {_MAX_TOKENS} tokens. 'x' is neuralrank int8's time to theirs: above 1, ours is "
        "faster. Agreement: mean Spearman correlation with float32.",
    )
    for name, found in measured.items():
        if found.error:
            print(f"{name}: {found.error}")
    show(
        "2. Most that this machine did in the same run, 10⁹ operations a second",
        [{"what": name, "peak": round(value, 1)} for name, value in top.items()],
        "Large matrix products (2048³) in ONNX Runtime and numpy. '% of peak' above is against "
        "these, on the tokens that are there: what padding costs counts as lost. Of the last layer "
        "our graph computes the first token alone beside keys and values, and no more is counted.",
    )
    return {
        "threads": threads,
        "characters": SidecarSettings().rerank_characters,
        "peak_gops": {name: round(value, 1) for name, value in top.items()},
        "gflop_by_set": {name: round(value / 1e9, 1) for name, value in work[True].items()},
        "gflop_by_set_of_others": {
            name: round(value / 1e9, 1) for name, value in work[False].items()
        },
        "rows": rows,
        "errors": {name: found.error for name, found in measured.items() if found.error},
    }


def _peer_row(
    name: str, sets: Sequence[PairSet], measured: dict[str, Measured], work: dict[str, float],
    top: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    found = measured[name]
    row: dict[str, Any] = {"what": name}
    shares = []
    for pairs in sets:
        seconds = _median(found, pairs.name)
        ours = _median(measured[_OURS], pairs.name)
        row[f"{pairs.name} pairs/s"] = round(pairs.pairs / seconds, 1)
        row[f"{pairs.name} x"] = round(seconds / ours, 2)
        shares.append(work[pairs.name] / seconds / 1e9)
    precision = "int8" if "int8" in name else "fp32"
    row["% of peak"] = round(100 * float(np.mean(shares)) / top[precision], 1)
    reference = measured[_REFERENCE].scores
    known = [pairs.name for pairs in sets if pairs.name in found.scores and pairs.name in reference]
    row["agreement"] = round(
        float(np.mean([agreement(found.scores[s], reference[s]) for s in known])), 3
    ) if known else float("nan")  # fmt: skip
    return row


def _median(found: Measured, name: str) -> float:
    """Seconds, without the first round; NaN where nothing was measured."""
    seconds = found.seconds.get(name, [])[1:] or found.seconds.get(name, [])
    return float(np.median(seconds)) if seconds else float("nan")


def _load() -> dict[str, Any]:
    """Point 3."""
    with tempfile.TemporaryDirectory(prefix="neuralrank-bench-") as folder:
        found = measure_load(default_registry(), Path(folder), _LOAD_SECONDS)
    show(
        f"3. Rank of 100 candidates, deadline {found['deadline_ms']} ms",
        found["rows"],
        f"Ready after {found['ready_s']} s with {found['rss_mb_ready']:.0f} MB, "
        f"{found['rss_mb_loaded']:.0f} MB at the end. Held at p99 < {found['limit_ms']:.0f} ms: "
        f"{found['capacity_per_s']}/s. No query is asked twice. Times of answered requests, at "
        "constant rates from when a request should have left. Load and sidecar share the cores; "
        "'apart', the sidecar has half of them and the load the others "
        f"({found['capacity_per_s_apart']}/s held).",
    )
    return found


def _overhead() -> dict[str, Any]:
    """Point 4."""
    rows = overhead.measure()
    show(
        "4. Rank without inference, over gRPC on loopback",
        rows,
        "'over' is what Rank adds to an empty service with as many bytes both ways. "
        "`python -m bench overhead` says more.",
    )
    return {"rows": rows}


def _scaling() -> dict[str, Any]:
    """Point 5."""
    with tempfile.TemporaryDirectory(prefix="neuralrank-bench-") as folder:
        rows = measure_scaling(default_registry(), Path(folder), _LOAD_SECONDS / 2)
    show("5. Processes and replicas", rows, "All on the cores of this one machine, with the load.")
    return {"rows": rows}


PARTS: Final = {"pairs": _pairs, "load": _load, "overhead": _overhead, "scaling": _scaling}


def run(parts: Sequence[str] = ()) -> None:
    """Prints the tables, and writes each part when it is done: those of other runs stay, with the
    time, the machine and the runtime of their own."""
    file = RESULTS / "sidecar.json"
    RESULTS.mkdir(exist_ok=True)
    for name in parts or PARTS:
        found = PARTS[name]() | where_and_when()
        known = json.loads(file.read_text()) if file.is_file() else {}
        others = {part: known[part] for part in PARTS if part in known}
        write_json(file, {"name": "sidecar"} | others | {name: found})
        print(f"{name}: written to bench/results/sidecar.json")
