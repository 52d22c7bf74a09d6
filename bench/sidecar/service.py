"""`Rank` over gRPC under load, one sidecar or several; the load comes from another process."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.capacity import SLACK_MS, find_capacity
from bench.load import Spec, Tally, load, save_requests
from bench.running import Running
from bench.scripted import Site
from bench.workload import make_requests, make_shop
from neuralrank.bundles.registry import Registry
from sidecar.settings import SidecarSettings

__all__ = ["measure_load", "measure_scaling"]

_CALLERS: Final = (1, 4, 16, 64)
_TIMES: Final = (1, 2, 10)
# Of the clients, in the part on scaling: workers on one port share connections.
_CONNECTIONS: Final = 16
_ENCODER: Final = "multilingual-e5-small"
# A caller that waits for longer than this has given up; far enough beyond the deadline to see how
# late an answer is.
_PATIENCE: Final = 2.0


@dataclass
class _Bench:
    """Where the load goes to and comes from. `used` counts the requests, so that none is asked
    twice."""

    folder: Path
    requests: Path
    registry: str
    opensearch: str
    deadline_ms: int
    used: int = 0
    # Of the load, as `Spec` has them.
    where: Mapping[str, Any] = field(default_factory=dict)

    def start(
        self, name: str, *arguments: str, before: tuple[str, ...] = (), **settings: object
    ) -> Running:
        return Running(
            self.folder / f"{name}.log",
            opensearch_url=self.opensearch,
            registry=self.registry,
            arguments=arguments,
            before=before,
            **settings,
        )

    async def load(self, target: str, seconds: float, **how: Any) -> Tally:
        spec = Spec(
            target, str(self.requests), seconds, skip=self.used,
            timeout=self.deadline_ms / 1_000 + _PATIENCE, **self.where, **how,
        )  # fmt: skip
        tally = await asyncio.to_thread(load, spec, self.folder)
        self.used += tally.sent
        return tally

    async def capacity(self, target: str, seconds: float) -> float:
        best, self.used = await asyncio.to_thread(
            find_capacity, target, self.requests, self.folder,
            deadline_ms=self.deadline_ms, seconds=seconds, skip=self.used, **self.where,
        )  # fmt: skip
        return best


def measure_load(registry: str, folder: Path, seconds: float) -> dict[str, Any]:
    """One sidecar: its start, its memory, latency by callers, capacity, and beyond capacity."""
    return asyncio.run(_measure_load(registry, folder, seconds))


async def _measure_load(registry: str, folder: Path, seconds: float) -> dict[str, Any]:
    async with _bench(registry, folder) as bench:
        with bench.start("one") as sidecar:
            ready = await asyncio.to_thread(sidecar.ready)
            rss_ready = sidecar.usage().rss_mb
            # Connections, caches and the estimate of a pair's cost: not of the first request.
            await bench.load(sidecar.address, 2.0, callers=2)
            callers = [
                _row(f"{count} callers", await bench.load(sidecar.address, seconds, callers=count))
                for count in _CALLERS
            ]
            capacity, beyond = await _beyond(bench, sidecar, seconds, "")
            found = {
                "deadline_ms": bench.deadline_ms,
                "limit_ms": bench.deadline_ms + SLACK_MS,
                "ready_s": round(ready, 2),
                "rss_mb_ready": round(rss_ready, 1),
                "rss_mb_loaded": round(sidecar.usage().rss_mb, 1),
                "capacity_per_s": round(capacity, 1),
            }
        with _apart(bench) as before, bench.start("apart", before=before) as sidecar:
            await asyncio.to_thread(sidecar.ready)
            await bench.load(sidecar.address, 2.0, callers=2)
            apart, alone = await _beyond(bench, sidecar, seconds, ", apart")
        return {**found, "capacity_per_s_apart": round(apart, 1), "rows": callers + beyond + alone}


async def _beyond(
    bench: _Bench, sidecar: Running, seconds: float, suffix: str
) -> tuple[float, list[dict[str, Any]]]:
    """The capacity, and what comes of a multiple of it."""
    capacity = await bench.capacity(sidecar.address, seconds)
    rows = [
        _row(
            f"{times}x capacity, {times * capacity:.0f}/s{suffix}",
            await bench.load(sidecar.address, seconds, rate=times * capacity),
        )
        for times in _TIMES
        if capacity
    ]
    return capacity, rows


@contextmanager
def _apart(bench: _Bench) -> Iterator[tuple[str, ...]]:
    """The load, and the OpenSearch of this process, on half of the cores; the command that runs a
    sidecar on the others. A load that takes the sidecar's cores shows how late itself is."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    bench.where = {"cores": cores[half:] or cores}
    os.sched_setaffinity(0, bench.where["cores"])
    try:
        yield ("taskset", "--cpu-list", ",".join(map(str, cores[:half])))
    finally:
        os.sched_setaffinity(0, cores)
        bench.where = {}


def measure_scaling(registry: str, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Requests a second held by one process, by two workers on one port, and by two replicas that
    the client takes in turn."""
    return asyncio.run(_measure_scaling(registry, folder, seconds))


async def _measure_scaling(registry: str, folder: Path, seconds: float) -> list[dict[str, Any]]:
    # One core a process, so that a second process has a core to use.
    threads = {"threads": 1}
    shapes: dict[str, Sequence[tuple[str, ...]]] = {
        "1 process, all cores": [()],
        "1 process, 1 thread": [()],
        "2 worker processes on one port, 1 thread each": [("--processes", "2")],
        "2 replicas behind round_robin, 1 thread each": [(), ()],
    }
    rows = []
    async with _bench(registry, folder) as bench:
        bench.where = {"connections": _CONNECTIONS}
        for name, starts in shapes.items():
            with ExitStack() as stack:
                settings = {} if "all cores" in name else threads
                replicas = [
                    stack.enter_context(bench.start(f"scaling-{place}", *arguments, **settings))
                    for place, arguments in enumerate(starts)
                ]
                try:
                    for replica in replicas:
                        await asyncio.to_thread(replica.ready)
                except RuntimeError as error:
                    rows.append({"what": name, "held/s": 0.0, "p99 ms": 0.0, "RSS MB": 0.0,
                                 "error": str(error)[-200:]})  # fmt: skip
                    continue
                target = "ipv4:" + ",".join(replica.address for replica in replicas)
                await bench.load(target, 2.0, callers=4)
                held = await bench.capacity(target, seconds)
                tally = await bench.load(target, seconds, rate=held) if held else Tally()
                rows.append(
                    {
                        "what": name,
                        "held/s": round(held, 1),
                        "p99 ms": round(tally.percentile(99), 1),
                        "RSS MB": round(sum(r.usage().rss_mb for r in replicas), 1),
                        "error": "",
                    }
                )
    return rows


@asynccontextmanager
async def _bench(registry: str, folder: Path) -> AsyncIterator[_Bench]:
    encoder = Registry(registry).get(_ENCODER)
    shop = make_shop(encoder.ref, encoder.manifest.dimensions)
    requests = folder / "requests.bin"
    save_requests(requests, make_requests(shop, 2_000))
    async with Site(shop.app()) as site:
        yield _Bench(folder, requests, registry, site.url, SidecarSettings().deadline_ms)


def _row(name: str, tally: Tally) -> dict[str, Any]:
    sent = max(1, tally.sent)
    failed = tally.sent - tally.answered - tally.refused - tally.lost
    span = max(1e-9, tally.at)
    return {
        "what": name,
        "sent": tally.sent,
        "answered/s": round(tally.answered / span, 1),
        "p50 ms": round(tally.percentile(50), 1),
        "p95 ms": round(tally.percentile(95), 1),
        "p99 ms": round(tally.percentile(99), 1),
        "refused %": round(100 * tally.refused / sent, 1),
        "failed %": round(100 * failed / sent, 1),
        "partial %": round(100 * tally.degraded["DEADLINE"] / max(1, tally.answered), 1),
        "lost": tally.lost,
        "generator late ms": None if tally.late_ms is None else round(tally.late_ms, 1),
    }
