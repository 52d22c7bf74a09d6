"""Everything that needs an NVIDIA GPU, in one command: correctness, latency, throughput, ratios.

    python bench/gpu.py            writes bench/results/gpu.json

TensorRT in each precision against torch eager, torch.compile and ONNX Runtime's CUDA provider, in
the same run, with the same weights and the same inputs, copies to and from the GPU included. What
is not installed is left out and named. Without a GPU, TensorRT or a model, or where TensorRT itself
can't be measured, it ends with code 7 and says what is missing; nothing is written then.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `python bench/gpu.py` puts its own folder there, not the checkout
    sys.path.insert(0, str(ROOT))

from bench.gpu_contenders import Contender, contenders, product  # noqa: E402
from bench.shape import MINILM_L12, Shape  # noqa: E402
from neuralrank.backends.tensorrt.agreement import agreement  # noqa: E402
from neuralrank.backends.tensorrt.driver import Driver, open_driver  # noqa: E402
from neuralrank.backends.tensorrt.graph import read_float_graph  # noqa: E402
from neuralrank.backends.tensorrt.library import Library, load_library  # noqa: E402
from neuralrank.backends.tensorrt.trial import on_cpu, real_feeds  # noqa: E402
from neuralrank.bundles.bundle import Bundle  # noqa: E402
from neuralrank.bundles.registry import Registry  # noqa: E402
from neuralrank.errors import NeuralrankError, Unsupported  # noqa: E402
from neuralrank.settings import load_settings  # noqa: E402

RESULT: Final = ROOT / "bench/results/gpu.json"
PAIRS: Final = 100
LENGTHS: Final = (32, 64, 128)
# What a Hopper card does in half precision, in floating point operations a second.
PEAK: Final = 790e12
GOAL_P50_MS, GOAL_SHARE, GOAL_RATIO = 2.0, 0.4, 3.0

Feeds = Mapping[str, NDArray[Any]]


def bound(shape: Shape, length: int) -> float:
    """Seconds that `PEAK` would take for `PAIRS`; all contenders run the graph that we wrote."""
    return PAIRS * shape.flop(length) / PEAK


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    warm: int = 20
    rounds: int = 300
    threads: int = 8
    seconds: float = 5.0


def full_feeds(inputs: frozenset[str], pairs: int, length: int, words: int) -> Feeds:
    """Inputs in which every token is real: the time does not depend on which."""
    random = np.random.default_rng(length)
    feeds = {name: np.ones((pairs, length), np.int64) for name in inputs}
    feeds["input_ids"] = random.integers(5, words, (pairs, length))
    if "token_type_ids" in feeds:
        feeds["token_type_ids"][:, : length // 4] = 0
    return feeds


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    values = np.percentile(np.asarray(seconds) * 1_000, [50, 95, 99])
    return {f"p{p}_ms": round(float(v), 4) for p, v in zip((50, 95, 99), values, strict=True)}


def alone(run: Callable[[Feeds], Any], feeds: Feeds, effort: Effort) -> list[float]:
    """Seconds of each call, one after the other, after the warm ones."""
    for _ in range(effort.warm):
        run(feeds)
    times = []
    for _ in range(effort.rounds):
        start = time.perf_counter()
        run(feeds)
        times.append(time.perf_counter() - start)
    return times


def under_load(
    run: Callable[[Feeds], Any], feeds: Feeds, effort: Effort
) -> tuple[list[float], float]:
    """Seconds of each call while `effort.threads` callers go on, and calls a second together.

    Raises:
        RuntimeError: a caller failed.
    """
    times: list[float] = []
    failures: list[Exception] = []
    begin = time.perf_counter()
    end = begin + effort.seconds

    def caller() -> None:
        try:
            # At least one call each: on a busy machine the time may be over before it begins.
            while True:
                start = time.perf_counter()
                run(feeds)
                times.append(time.perf_counter() - start)
                if time.perf_counter() >= end:
                    return
        except Exception as error:  # said by the caller of this function
            failures.append(error)

    threads = [threading.Thread(target=caller) for _ in range(effort.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} of {effort.threads} callers failed: {failures[0]}")
    return times, len(times) / (time.perf_counter() - begin)


def measure(contender: Contender, shape: Shape, words: int, effort: Effort) -> list[dict[str, Any]]:
    """One row for each length."""
    rows = []
    for length in LENGTHS:
        feeds = full_feeds(contender.inputs, PAIRS, length, words)
        single = alone(contender.run, feeds, effort)
        loaded, rate = under_load(contender.run, feeds, effort)
        rows.append(
            {
                "what": contender.name,
                "pairs": PAIRS,
                "tokens": length,
                "single": percentiles(single),
                "under_load": percentiles(loaded),
                "callers": effort.threads,
                "pairs_per_second": round(rate * PAIRS, 1),
                "bound_ms": round(bound(shape, length) * 1_000, 4),
                "share_single": round(bound(shape, length) / float(np.median(single)), 4),
                "share_saturated": round(bound(shape, length) * rate, 4),
            }
        )
    return rows


def with_ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with how many times faster than each other library they are, where it was there."""
    medians = {(row["what"], row["tokens"]): row["single"]["p50_ms"] for row in rows}
    others = ("torch eager", "torch.compile", "ONNX Runtime CUDA")
    return [
        {
            **row,
            "times_faster_than": {
                other: round(medians[other, row["tokens"]] / row["single"]["p50_ms"], 3)
                for other in others
                if (other, row["tokens"]) in medians and other != row["what"]
            },
        }
        for row in rows
    ]


def goals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The goals for 100 × 128, by the best TensorRT that agrees with fp32; None: not measured."""
    mine = [
        row
        for row in rows
        if row["what"].startswith("TensorRT") and row["tokens"] == 128 and row.get("agrees")
    ]
    if not mine:
        return {"p50_under_2_ms": None, "share_above_0.4": None, "3_times_torch_eager": None}
    best = min(mine, key=lambda row: float(row["single"]["p50_ms"]))
    ratio = best["times_faster_than"].get("torch eager")
    return {
        "by": best["what"],
        "p50_under_2_ms": best["single"]["p50_ms"] < GOAL_P50_MS,
        "share_above_0.4": best["share_saturated"] > GOAL_SHARE,
        "3_times_torch_eager": None if ratio is None else ratio >= GOAL_RATIO,
    }


def needed(name: str, registry: str | None) -> tuple[Driver, Library, Bundle]:
    """The GPU, TensorRT and the model.

    Raises:
        Unsupported: anything is missing; the message names all of it.
    """
    found: list[Any] = []
    missing: list[str] = []
    registered = Registry(load_settings(registry=registry).registry_path)
    # TensorRT is not touched before the driver has been found: it may crash without one.
    for what in (open_driver, load_library, lambda: registered.get(name)):
        try:
            found.append(what())
        except NeuralrankError as error:
            missing.append(str(error))
    if missing:
        raise Unsupported("This machine can't run it:\n- " + "\n- ".join(missing))
    return found[0], found[1], found[2]


def run(name: str, registry: str | None, effort: Effort) -> dict[str, Any]:
    """Measures all contenders.

    Raises:
        Unsupported: something is missing, or TensorRT could not be measured.
    """
    cuda, library, bundle = needed(name, registry)
    exact = read_float_graph(bundle.model)
    samples = real_feeds(bundle, exact)
    expected = on_cpu(exact, samples)
    words = next(
        int(item.dims[0])
        for item in exact.graph.initializer
        if item.name in next(n.input for n in exact.graph.node if n.name == "words")
    )
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    versions: dict[str, str] = {library.name: library.version}
    for what, make in contenders(bundle, exact, samples, library, cuda).items():
        try:
            start = time.perf_counter()
            contender = make()
            seconds = time.perf_counter() - start
            given = np.concatenate([contender.run(feeds) for feeds in samples])
            found = agreement(expected, given.astype(np.float32))
            print(f"{what}: made in {seconds:.1f} s; {found}", flush=True)
            facts = {"made_in_s": round(seconds, 1), "agrees": found.within()}
            measured = measure(contender, MINILM_L12, words, effort)
            rows += [{**row, **facts, "agreement": found.as_dict()} for row in measured]
            versions |= contender.versions
            contender.close()
        except Exception as error:  # each on its own: the GPU is there for an hour
            left_out[what] = f"{type(error).__name__}: {error}"
            print(f"{what}: left out: {left_out[what]}", flush=True)
    if not any(row["what"].startswith(product(library)) for row in rows):
        raise Unsupported(
            f"{product(library)} could not be measured, and nothing is written. Left out:\n- "
            + "\n- ".join(f"{what}: {why}" for what, why in left_out.items())
        )
    rows = with_ratios(rows)
    return {
        "name": "gpu",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": asdict(cuda.device),
        "bundle": bundle.ref,
        "versions": versions,
        "effort": asdict(effort),
        "peak_flop_per_second": PEAK,
        "goals": goals(rows),
        "rows": rows,
        "left_out": left_out,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measures TensorRT against others on a GPU.")
    parser.add_argument(
        "--model", default="ms-marco-minilm-l12", help="a bundle: name or name@hash"
    )
    parser.add_argument("--registry", help="where it is; the local stack's by default")
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="calls of each case")
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of each load")
    parser.add_argument("--threads", type=int, default=Effort.threads, help="callers at once")
    given = parser.parse_args(arguments)
    effort = Effort(rounds=given.rounds, seconds=given.seconds, threads=given.threads)
    try:
        result = run(given.model, given.registry, effort)
    except Unsupported as error:
        print(f"bench/gpu.py: {error}", file=sys.stderr)
        return 7
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for row in result["rows"]:
        print(
            f"{row['what']:32} {row['tokens']:4} tokens  p50 {row['single']['p50_ms']:8.3f} ms  "
            f"{row['pairs_per_second']:10.0f} pairs/s  {row['share_saturated']:.1%} of the bound"
        )
    print(f"Goals: {result['goals']}\nWritten to {RESULT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
