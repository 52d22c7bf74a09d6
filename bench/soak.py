"""A soak: load at 70 % of capacity for a long time, with model swaps, profile changes and faults of
OpenSearch, and a verdict on whether the sidecar stays as it was.

    python -m bench.soak --minutes 30

Memory, files, threads and p99 are taken every minute. Flat means: a robust line through them (the
median of all slopes, Theil and Sen 1968) rises by no more than `TOLERANCE` over the run, after a
quarter of the time for caches to fill. Ends by itself, with code 1 where the verdict is not flat.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import psutil

from bench.capacity import SLACK_MS, find_capacity
from bench.disturbances import Done, cancel, change_profiles, inject, swap
from bench.entry import entry
from bench.faulty import FaultProxy
from bench.flatness import Sample, Verdict, judge
from bench.load import Spec, Tally, load, loading, merged, parse, save_requests
from bench.report import RESULTS, where_and_when, write_json
from bench.running import Running
from bench.scripted import Site
from bench.workload import default_registry, make_requests, make_shop
from neuralrank.bundles.registry import Registry
from sidecar.settings import SidecarSettings

__all__ = ["soak"]

SHARE: Final = 0.7
_CROSS_ENCODER: Final = "neuralrank-small"
_ENCODER: Final = "multilingual-e5-small"
# Seconds.
_SAMPLE_EVERY: Final = 60.0
# Minutes from which on what was measured takes the place of an earlier soak.
_PUBLISHED_FROM: Final = 10.0


async def soak(minutes: float, folder: Path, *, sample_every: float = _SAMPLE_EVERY) -> Verdict:
    """Runs it and judges; from ten minutes on writes `bench/results/soak.json` and `soak.svg`."""
    source = Registry(default_registry())
    registry = Registry(str(folder / "models"))
    (folder / "models").mkdir()
    encoder = registry.publish(source.get(_ENCODER))
    bundle = registry.publish(source.get(_CROSS_ENCODER))
    shop = make_shop(encoder.ref, encoder.manifest.dimensions)
    requests = folder / "requests.bin"
    save_requests(requests, make_requests(shop, 2_000))
    deadline = SidecarSettings().deadline_ms
    async with Site(shop.app()) as site, FaultProxy(site.url) as proxy:
        with Running(
            folder / "sidecar.log", opensearch_url=proxy.url, registry=registry.url,
            registry_poll_seconds=1.0,
        ) as sidecar:  # fmt: skip
            ready = await asyncio.to_thread(sidecar.ready)
            capacity, used = await asyncio.to_thread(
                find_capacity, sidecar.address, requests, folder,
                deadline_ms=deadline, seconds=4.0,
            )  # fmt: skip
            if not capacity:
                # Other work on the machine takes the deadline's time: then not p99, but what two
                # callers get done says what it can do now.
                calm = Spec(sidecar.address, str(requests), 4.0, callers=2, skip=used)
                tally = await asyncio.to_thread(load, calm, folder)
                capacity, used = tally.answered / 4.0, used + tally.sent
                print("no rate keeps its p99 on this machine now; capacity is that of two callers")
            rate = SHARE * capacity
            if not rate:
                raise RuntimeError("The sidecar answers nothing: see its log.")
            print(f"capacity {capacity:.1f}/s, soaking at {rate:.1f}/s for {minutes:g} min")
            done = Done()
            doing = [
                asyncio.create_task(task)
                for task in (
                    swap(registry, bundle, folder, done),
                    inject(proxy),
                    change_profiles(shop, done),
                    cancel(sidecar.address, make_requests(shop, 50, seed=9), done),
                )
            ]
            spec = Spec(
                sidecar.address, str(requests), minutes * 60, rate=rate, skip=used,
                timeout=(deadline + 1_000) / 1_000,
            )  # fmt: skip
            try:
                samples, tally = await _watch(spec, sidecar, folder, done, sample_every)
            finally:
                for task in doing:
                    task.cancel()
                results = await asyncio.gather(*doing, return_exceptions=True)
            broken = [result for result in results if isinstance(result, Exception)]
            alive = sidecar.process.poll() is None
    verdict = judge(samples, tally)
    verdict.problems.extend(f"a disturbance failed: {error!r}" for error in broken)
    if not alive:
        verdict.problems.append("the sidecar ended")
    # The last one may have come too late.
    if done.unserved > 1:
        verdict.problems.append(
            f"of {done.swaps} bundles that were published, no answer names {done.unserved}"
        )
    _publish(minutes, ready, capacity, rate, deadline, samples, tally, verdict, done, proxy)
    return verdict


async def _watch(
    spec: Spec, sidecar: Running, folder: Path, done: Done, every: float
) -> tuple[list[Sample], Tally]:
    """Samples until the generator ends, and everything that it saw."""
    samples: list[Sample] = []
    whole: list[Tally] = []
    span: list[Tally] = []
    loop = asyncio.get_running_loop()
    with loading(spec, folder) as process:
        lines = _lines(process.stdout)
        known = psutil.Process(sidecar.process.pid)
        busy = _Others(known)
        end = every
        while (line := await loop.run_in_executor(None, next, lines, None)) is not None:
            tally = parse(line)
            span.append(tally)
            whole.append(tally)
            done.served.update(tally.bundles)
            if tally.at >= end or (tally.at >= spec.seconds and not samples):
                usage, part = sidecar.usage(), merged(span)
                samples.append(
                    Sample(
                        round(tally.at / 60, 2), round(usage.rss_mb, 1), usage.files,
                        usage.threads, round(part.percentile(50), 1),
                        round(part.percentile(99), 1), part.answered, part.refused,
                        busy.percent(),
                    )
                )  # fmt: skip
                print(samples[-1], flush=True)
                span, end = [], end + every
        if process.wait() != 0:
            raise RuntimeError(f"the load generator ended with {process.returncode}")
    return samples, merged(whole)


def _lines(stream: Any) -> Iterator[str]:
    yield from stream


class _Others:
    """How busy the machine is with what is not ours: it explains a p99 that jumps."""

    def __init__(self, sidecar: psutil.Process) -> None:
        self._sidecar = sidecar
        self._own = psutil.Process()
        self._last = self._now()

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait
        ours = 0.0
        for parent in (self._sidecar, self._own):
            for process in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    spent = process.cpu_times()
                    ours += spent.user + spent.system
        return sum(times), busy, ours

    def percent(self) -> float:
        """Since the last call, of all cores."""
        now, last = self._now(), self._last
        self._last = now
        whole, busy, ours = (a - b for a, b in zip(now, last, strict=True))
        return round(100 * max(0.0, busy - ours) / max(whole, 1e-9), 1)


def _publish(
    minutes: float, ready: float, capacity: float, rate: float, deadline: int,
    samples: Sequence[Sample], tally: Tally, verdict: Verdict, done: Done, proxy: FaultProxy,
) -> None:  # fmt: skip
    result = {
        "name": "soak",
        **where_and_when(),
        "minutes": minutes,
        "ready_s": round(ready, 2),
        "deadline_ms": deadline,
        "capacity_per_s": round(capacity, 1),
        "rate_per_s": round(rate, 1),
        "verdict": "flat" if verdict.flat else "not flat",
        "problems": verdict.problems,
        "rises": {
            name: {"rise": rise, "allowed": allowed}
            for name, (rise, allowed) in verdict.rises.items()
        },
        "requests": tally.sent,
        "statuses": dict(tally.statuses),
        "lost": tally.lost,
        "wrong": tally.wrong,
        "p50_ms": round(tally.percentile(50), 1),
        "p99_ms": round(tally.percentile(99), 1),
        "limit_ms": deadline + SLACK_MS,
        "degraded": dict(tally.degraded),
        "swaps": done.swaps,
        "bundles_served": done.swaps - done.unserved,
        "events": done.events,
        "cancelled": done.cancelled,
        "faults": dict(Counter(proxy.injected)),
        "samples": [asdict(sample) for sample in samples],
    }
    print(
        f"{result['verdict']}: {tally.sent} requests, {tally.answered} answered, {tally.refused} "
        f"refused, {tally.lost} lost; {done.swaps} swaps, {done.events} profile changes, "
        f"{sum(proxy.injected.values())} faults, {done.cancelled} cancelled calls; "
        f"p99 {tally.percentile(99):.0f} ms"
    )
    for problem in verdict.problems:
        print(f"  {problem}")
    if minutes < _PUBLISHED_FROM:
        print(f"Not written: a soak of less than {_PUBLISHED_FROM:g} minutes is a try.")
        return
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "soak.json", result)
    _plot(samples, RESULTS / "soak.svg")
    print("Written to bench/results/soak.json and soak.svg")


def _plot(samples: Sequence[Sample], file: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    shown = {
        "rss_mb": "memory, MB", "files": "open files", "threads": "threads", "p99_ms": "p99, ms",
        "other_cpu": "other processes, % of the machine",
    }  # fmt: skip
    figure, axes = plt.subplots(len(shown), 1, sharex=True, figsize=(8, 10), layout="constrained")
    minutes = [sample.minute for sample in samples]
    for axis, (name, title) in zip(axes, shown.items(), strict=True):
        axis.plot(minutes, [getattr(sample, name) for sample in samples], marker=".")
        axis.set_ylabel(title, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sample-seconds", type=float, default=_SAMPLE_EVERY)
    flags = parser.parse_args()
    if flags.minutes <= 0 or flags.sample_seconds <= 0:
        parser.error("minutes and sample-seconds must be above 0")
    with tempfile.TemporaryDirectory(prefix="neuralrank-soak-") as folder:
        verdict = asyncio.run(soak(flags.minutes, Path(folder), sample_every=flags.sample_seconds))
    sys.exit(0 if verdict.flat else 1)


if __name__ == "__main__":
    entry(main)
