"""Swapping bundles under constant load: `python -m bench swaps`.

A real sidecar process, real gRPC, requests at a constant rate (open loop: one leaves on time
whether or not those before it were answered), each with a query of its own, so that no cache
answers it. Meanwhile bundles of one name are promoted, each as soon as the one before it serves.
Every answer names the bundle that scored it, and its logits are compared to that bundle's alone.

It is the default cross-encoder that is swapped, with another one whose logits are all a hundredth
higher. Swaps come at a constant rate, far more often than
anybody trains, or without a pause, which shows what is lost at the worst.
"""

import asyncio
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import onnx
from onnx import numpy_helper

from bench.report import Report
from bench.running import Running, Usage, usage
from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.settings import load_settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["Answers", "Swaps", "run", "shifted", "swap_under_load"]

# Of a logit, between the sidecar's batches and the bundle alone.
TOLERANCE: Final = 1e-3
_TEXTS: Final = (
    "wireless noise cancelling headphones with 30 hours of battery",
    "electric kettle 1.7 l stainless steel",
    "running shoes for women, light and breathable",
    "usb c charger 65 w with three ports",
    "queen size memory foam mattress",
)
# Between the logits of two bundles that are swapped.
_SHIFT: Final = 10 * TOLERANCE
# What is measured: how many swaps, and seconds from one to the next.
_ROWS: Final = (
    ("1,000 swaps, five in six seconds", 1_000, 1.2),
    ("60 swaps, without a pause", 60, 0.0),
)
_RATE: Final = 20.0
_SETTLE_SECONDS: Final = 60.0
# Answers of a row that are compared, evenly spread.
_COMPARED: Final = 3_000
_NO_PROXY: Final = [("grpc.enable_http_proxy", 0)]
_WAIT_SECONDS: Final = 60.0
# Between two looks at what serves: each is a call that the sidecar answers beside the load.
_LOOK_SECONDS: Final = 0.05
# Elsewhere it would take none of these cores.
_NICE: Final = 15


@dataclass
class Answers:
    """What the load got. `scored`: the query, the bundle that the answer names, and the logits by
    position in `_TEXTS`."""

    ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    scored: list[tuple[str, str, dict[int, float]]] = field(default_factory=list)
    # Answers that name no bundle or several.
    unnamed: int = 0

    def p99(self) -> float:
        return float(np.percentile(self.ms, 99)) if self.ms else float("nan")

    def mixed(self, alone: Callable[[str, str], np.ndarray], most: int = 10**9) -> int:
        """Answers with a logit that is not of the bundle that they name.

        Args:
            alone: a query's logits of all texts by one bundle, without a sidecar.
            most: answers that are looked at, evenly spread.
        """
        step = max(1, len(self.scored) // most)
        wrong = 0
        for query, ref, logits in self.scored[::step]:
            expected = alone(ref, query)
            wrong += any(abs(expected[i] - logit) > TOLERANCE for i, logit in logits.items())
        return wrong

    @property
    def cut_short(self) -> int:
        """Answers of which not all texts were read, so that `mixed` has less to look at."""
        return sum(len(logits) < len(_TEXTS) for _, _, logits in self.scored)


@dataclass
class Swaps:
    """What swapping did."""

    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)


async def swap_under_load(
    sidecar: Running,
    registry: Registry,
    refs: Sequence[str],
    *,
    swaps: int,
    rate: float,
    settle: float,
    deadline_ms: int,
    every: float = 0.0,
) -> tuple[Answers, Answers, Swaps]:
    """Load without swaps, and with them; half of the first before and half after.

    Bundles are promoted, and the sidecar is looked at, from a process of its own, as a person would
    from another machine: in this one it would hold up the requests whose time is taken.

    Args:
        refs: bundles of one name, promoted in turn.
        rate: requests a second.
        settle: seconds of load without swaps on either side.
        every: seconds from one swap to the next; 0 is each as soon as the one before it serves.

    Raises:
        RuntimeError: a bundle that was promoted does not serve.
    """
    quiet, busy, done = Answers(), Answers(), Swaps()
    loop = asyncio.get_running_loop()
    spawn = multiprocessing.get_context("spawn")
    whom = registry, sidecar.process.pid, sidecar.address
    with ProcessPoolExecutor(1, spawn, _begin, whom) as operator:
        async with grpc.aio.insecure_channel(sidecar.address, _NO_PROXY) as channel:
            stub: Any = pb_grpc.RankingStub(channel)
            await loop.run_in_executor(operator, _swap, refs[0])
            await _load(stub, Answers(), 1.0, rate, deadline_ms)  # connections and allocations
            await _load(stub, quiet, settle, rate, deadline_ms)
            stop = asyncio.Event()
            load = asyncio.create_task(_load(stub, busy, float("inf"), rate, deadline_ms, stop))
            begun = time.perf_counter()
            try:
                for number in range(swaps):
                    await asyncio.sleep(max(0.0, begun + number * every - time.perf_counter()))
                    ref = refs[(number + 1) % len(refs)]
                    seconds, used = await loop.run_in_executor(operator, _swap, ref)
                    done.seconds.append(seconds)
                    done.rss_mb.append(used.rss_mb)
                    done.threads.append(used.threads)
                    done.files.append(used.files)
            finally:
                stop.set()
                await load
            await _load(stub, quiet, settle, rate, deadline_ms)
    return quiet, busy, done


# Of the process that promotes: the registry, and the sidecar that follows it.
_operated: tuple[Registry, int, Any]


def _begin(registry: Registry, pid: int, address: str) -> None:
    global _operated
    os.nice(_NICE)
    channel = grpc.insecure_channel(address, _NO_PROXY)
    _operated = registry, pid, pb_grpc.RankingStub(channel)


def _swap(ref: str) -> tuple[float, Usage]:
    """Promotes a bundle and waits until new requests are answered by it: the seconds, and what
    the sidecar then uses.

    Raises:
        RuntimeError: it does not serve.
    """
    registry, pid, stub = _operated
    start = time.perf_counter()
    registry.promote(ref)
    while True:
        rows = stub.ModelStatus(pb.ModelStatusRequest(), timeout=10).bundles
        row = next((row for row in rows if f"{row.name}@{row.hash}" == ref), None)
        seconds = time.perf_counter() - start
        if row is not None and pb.BUNDLE_ROLE_SERVING in row.roles:
            return seconds, usage(pid)
        refused = row is not None and row.state == pb.BUNDLE_STATE_REFUSED
        if refused or seconds > _WAIT_SECONDS:
            raise RuntimeError(f"{ref} does not serve: {row.reason if row else 'not seen'}")
        time.sleep(_LOOK_SECONDS)


async def _load(
    stub: Any,
    answers: Answers,
    seconds: float,
    rate: float,
    deadline_ms: int,
    stop: asyncio.Event | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    calls: set[asyncio.Task[None]] = set()
    number = 0
    while number / rate < seconds and not (stop and stop.is_set()):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        call = asyncio.create_task(_ask(stub, answers, due, deadline_ms))
        calls.add(call)
        call.add_done_callback(calls.discard)
        number += 1
    await asyncio.gather(*calls)


async def _ask(stub: Any, answers: Answers, due: float, deadline_ms: int) -> None:
    query = f"item {time.perf_counter_ns() % 10**9}"
    request = pb.RankRequest(
        query=query,
        language="en",
        candidates=[pb.Candidate(id=str(i), text=text) for i, text in enumerate(_TEXTS)],
        options=pb.RankOptions(explain=True, deadline_ms=deadline_ms, max_reranked=len(_TEXTS)),
    )
    try:
        answer = await stub.Rank(request, timeout=deadline_ms / 1_000 + 5)
    except grpc.aio.AioRpcError as error:
        answers.failures[error.code().name] += 1
        return
    answers.ms.append((asyncio.get_running_loop().time() - due) * 1_000)
    logits = {
        int(hit.id): hit.explanation.cross_encoder_logit
        for hit in answer.results
        if hit.explanation.HasField("cross_encoder_logit")
    }
    if len(answer.results) != len(_TEXTS):
        answers.failures["candidates lost"] += 1
    if len(answer.bundles) != 1:
        answers.unnamed += 1
    else:
        answers.scored.append((query, answer.bundles[0], logits))


def alone(registry: Registry) -> Callable[[str, str], np.ndarray]:
    """The logits of all texts by one bundle, in this process."""
    loaded: dict[str, CrossEncoder] = {}

    def score(ref: str, query: str) -> np.ndarray:
        if ref not in loaded:
            loaded[ref] = CrossEncoder.load(registry.get(ref), threads=1)
        # As the sidecar cuts texts; `_TEXTS` are shorter than its limit.
        return loaded[ref].score(query, _TEXTS)

    return score


def run() -> None:
    """Prints and writes the report."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="neuralrank-swaps-") as made:
        work = Path(made)
        source = Registry(load_settings().registry_path).get("neuralrank-small")
        bundles = [shifted(source, work / f"default-{number}", number) for number in range(2)]
        for what, swaps, every in _ROWS:
            folder = work / str(len(rows))
            rows.append({"what": what, **_measure(folder, bundles, swaps, every)})
            # The first row takes most of half an hour.
            _publish(rows)


def _publish(rows: Sequence[dict[str, Any]]) -> None:
    Report(
        "swaps",
        "Swapping the cross-encoder under constant load",
        rows,
        "p99 from when a request should have left, without swaps and with them, in one run. "
        f"{_COMPARED:,} answers of a row, or all, were compared to what the bundle that they name "
        "gives alone. RSS after a tenth of the swaps, and at the end.",
    ).publish()


def shifted(source: Bundle, folder: Path, number: int) -> Bundle:
    """The bundle at the same cost, all of its logits higher by so many times `_SHIFT`: by these it
    can be told which one scored."""
    folder.mkdir()
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)
    model = onnx.load(str(source.model))
    (logits,) = (node for node in model.graph.node if "logits" in node.output)
    (bias,) = (item for item in model.graph.initializer if item.name in logits.input)
    bias.CopyFrom(
        numpy_helper.from_array(
            numpy_helper.to_array(bias) + np.float32(number * _SHIFT), bias.name
        )
    )
    onnx.save(model, str(folder / MODEL))
    fields = source.manifest.model_dump(mode="json", exclude={"files"})
    golden = [
        {**row, "values": [value + number * _SHIFT for value in row["values"]]}
        for row in fields["golden"]
    ]
    return write_bundle(folder, {**fields, "golden": golden})


def _measure(work: Path, bundles: Sequence[Bundle], swaps: int, every: float) -> dict[str, Any]:
    registry = Registry(str(work / "models"))
    (work / "models").mkdir(parents=True)
    refs = [registry.publish(bundle).ref for bundle in bundles]
    log = work / "sidecar.log"
    with Running(
        log,
        opensearch_url="http://127.0.0.1:1",
        registry=registry.url,
        registry_poll_seconds=0.05,
        max_slowdown=10,
    ) as sidecar:
        sidecar.ready()
        quiet, busy, done = asyncio.run(
            swap_under_load(
                sidecar,
                registry,
                refs,
                swaps=swaps,
                rate=_RATE,
                settle=_SETTLE_SECONDS,
                deadline_ms=2_000,
                every=every,
            )
        )
    freed = sum(
        json.loads(line)["message"] == "bundle freed" for line in log.read_text().splitlines()
    )
    early = done.rss_mb[len(done.rss_mb) // 10 :][:5]
    return {
        "swaps": swaps,
        "requests": len(busy.ms),
        "failed": sum(busy.failures.values()) + sum(quiet.failures.values()),
        "by two bundles": busy.unnamed + busy.mixed(alone(registry), _COMPARED),
        "cut short": busy.cut_short,
        "freed": freed,
        "p99 ms": round(quiet.p99(), 2),
        "p99 ms swapping": round(busy.p99(), 2),
        "ratio": round(busy.p99() / quiet.p99(), 2),
        "s a swap": round(float(np.median(done.seconds)), 3),
        "RSS MB early": round(float(np.median(early)), 1),
        "RSS MB end": round(float(np.median(done.rss_mb[-5:])), 1),
        "threads": f"{done.threads[0]} → {done.threads[-1]}",
        "files": f"{done.files[0]} → {done.files[-1]}",
    }
