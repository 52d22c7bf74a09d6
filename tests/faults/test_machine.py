"""What machines do: disks fill up, clocks jump, processes are killed."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from bench.faulty import FaultProxy
from bench.running import Running, free_port
from bench.scripted import Shop
from neuralrank.bundles.registry import Registry
from neuralrank.client import Client
from neuralrank.v1 import ranking_pb2 as pb
from tests.faults.account import Account, ask, connect, request
from tests.faults.conftest import PRODUCTS, START
from tests.tiny import tiny_cross_encoder
from tests.unit.conftest import tiny_bundle

# Runs what follows with files of at most so many bytes: beyond it, writing fails as on a full disk.
_FULL_DISK = (
    "import os, resource, sys; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
_DAY_S = 86_400


async def test_a_full_disk_keeps_models_away_and_not_the_service(
    start: START, account: Account, registry: str, tmp_path: Path
) -> None:
    # Any registry that is not a local path is copied to a local folder before it is read.
    sidecar = start(
        registry=f"simplecache::file://{registry}",
        before=(sys.executable, "-c", _FULL_DISK),
        environment={"TMPDIR": str(tmp_path)},
        log=Path("/dev/null"),
    )
    account.fault("full disk while loading")
    async with connect(sidecar.address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        statuses = await _refused(sidecar.address)
        assert {row.state for row in statuses} == {pb.BUNDLE_STATE_REFUSED}
        assert all(row.reason for row in statuses)
        for outcome in await ask(channel, [request(user=f"u{n}") for n in range(8)], account):
            assert outcome.status == "OK"
            assert outcome.ids == set(PRODUCTS)
    assert sidecar.process.poll() is None


async def test_a_log_that_can_not_be_written_costs_the_log(start: START, account: Account) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    sidecar = start(log=Path("/dev/full"))
    await asyncio.to_thread(sidecar.ready)
    account.fault("log on a full disk")
    async with connect(sidecar.address) as channel:
        for outcome in await ask(channel, [request(user=f"u{n}") for n in range(8)], account):
            assert outcome.status == "OK"


async def test_publishing_on_a_full_disk_leaves_no_half_bundle(
    start: START, account: Account, registry: str, tmp_path: Path
) -> None:
    models = Registry(str(tmp_path / "models"))
    models.publish(Registry(registry).get("tiny-encoder"))
    sidecar = start(registry=models.url)
    await asyncio.to_thread(sidecar.ready)
    tiny_bundle(tmp_path / "fresh", "cross_encoder")
    publish = (
        "from pathlib import Path; from neuralrank.bundles.bundle import Bundle; "
        "from neuralrank.bundles.registry import Registry; "
        f"Registry({models.url!r}).publish(Bundle.open(Path({str(tmp_path / 'fresh')!r})))"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _FULL_DISK, sys.executable, "-c", publish],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    account.fault("full disk while publishing")
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert len(models.refs()) == 1
    async with connect(sidecar.address) as channel:
        (outcome,) = await ask(channel, [request()], account)
    assert outcome.status == "OK"
    assert [row.state for row in await _statuses(sidecar.address)] == [pb.BUNDLE_STATE_SERVING]


# Replaces the wall clock of a whole process, of its C libraries too: what is in the file, in
# seconds, is added to it. The monotonic clock is left alone, as by NTP or by an administrator.
_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) {
  long seconds = 0;
  FILE *file = fopen(getenv("FAULTS_CLOCK"), "r");
  if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
  return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*true_gettime)(clockid_t, struct timespec *);
  if (!true_gettime) *(void **)&true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  int result = true_gettime(clock, now);
  if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += offset();
  return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *out) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (out) *out = precise.tv_sec;
  return precise.tv_sec;
}
"""


@pytest.fixture(scope="module")
def jumping_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the clock of a process is replaced by a library: needs Linux and cc")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(_CLOCK)
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "clock.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@pytest.mark.parametrize("jump", [_DAY_S, -_DAY_S], ids=["a day on", "a day back"])
async def test_a_clock_that_jumps_changes_neither_deadlines_nor_ages(
    start: START, account: Account, shop: Shop, tmp_path: Path, jumping_clock: Path, jump: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    sidecar = start(
        environment={"LD_PRELOAD": str(jumping_clock), "FAULTS_CLOCK": str(clock)},
        user_ttl_seconds=1.0,
        item_ttl_seconds=1.0,
        index_ttl_seconds=1.0,
    )
    await asyncio.to_thread(sidecar.ready)
    async with connect(sidecar.address) as channel:
        # Twice: some of what the first one reads is known when the second one comes.
        for _ in range(2):
            await ask(channel, [request()], account)
        clock.write_text(str(jump))
        account.fault("clock jump")
        asked = shop.asked
        (at_once,) = await ask(channel, [request()], account)
        # A wall clock would have dropped what is fresh when it jumps on …
        assert shop.asked == asked or jump < 0
        outcomes = [at_once]
        for _ in range(8):
            outcomes += await ask(channel, [request()], account)
        assert {outcome.status for outcome in outcomes} == {"OK"}
        # … and would keep what is stale for a day when it jumps back.
        await asyncio.sleep(1.2)
        asked = shop.asked
        (later,) = await ask(channel, [request()], account)
        assert later.status == "OK"
        assert shop.asked > asked
    # What it logs last has the other day's date: the clock did jump.
    sidecar.stop()
    last = sidecar.log.read_text("utf-8").splitlines()[-1]
    day = datetime.now(UTC) + timedelta(seconds=jump)
    assert json.loads(last)["time"][:10] == f"{day:%Y-%m-%d}"


async def test_a_worker_killed_in_the_middle_of_its_work_is_replaced(
    start: START, account: Account, opensearch: FaultProxy
) -> None:
    sidecar = start(processes=2)
    await asyncio.to_thread(sidecar.ready)
    # Requests wait for OpenSearch, so that all of them are in work when it happens.
    await opensearch.set("slow", seconds=0.15)
    first = {child.pid for child in sidecar.children()}
    assert len(first) == 2
    async with connect(sidecar.address) as one, connect(sidecar.address) as other:
        await asyncio.gather(one.channel_ready(), other.channel_ready())
        asking = [
            asyncio.create_task(ask(channel, [request(user=f"u{n}") for n in range(10)], account))
            for channel in (one, other)
        ]
        await asyncio.sleep(0.05)
        os.kill(min(first), signal.SIGKILL)
        account.fault("worker killed")
        # Answered by the other, or told at once: `ask` fails for who is left waiting.
        outcomes = [outcome for part in await asyncio.gather(*asking) for outcome in part]
        assert {outcome.status for outcome in outcomes} <= {"OK", "UNAVAILABLE"}
        await opensearch.set("none")
        await _replaced(sidecar, first, min(first), account)


async def test_a_worker_killed_in_a_model_run_costs_its_own_requests_only(
    start: START, account: Account, registry: str, tmp_path: Path
) -> None:
    # A model so slow that a run is under way whenever the worker is killed.
    models = Registry(str(tmp_path / "models"))
    models.publish(Registry(registry).get("tiny-encoder"))
    models.publish(tiny_cross_encoder(tmp_path / "slow", 9, layers=40))
    port = free_port()
    sidecar = start(
        registry=models.url, processes=2, http_listen=f"127.0.0.1:{port}", max_deadline_ms=5_000
    )
    await asyncio.to_thread(sidecar.ready)
    first = {child.pid for child in sidecar.children()}
    async with connect(sidecar.address) as one, connect(sidecar.address) as other:
        await asyncio.gather(one.channel_ready(), other.channel_ready())
        asking = [
            asyncio.create_task(ask(channel, [_new(f"{name}{n}") for n in range(3)], account))
            for name, channel in (("one", one), ("other", other))
        ]
        victim = await _in_a_run(first, port)
        os.kill(victim, signal.SIGKILL)
        account.fault("worker killed in a model run")
        outcomes = [outcome for part in await asyncio.gather(*asking) for outcome in part]
        # Answered by the other, or told at once: `ask` fails for who is left waiting.
        assert {outcome.status for outcome in outcomes} <= {"OK", "UNAVAILABLE"}
        assert "UNAVAILABLE" in {outcome.status for outcome in outcomes}
    await _replaced(sidecar, first, victim, account)


def _new(name: str) -> pb.RankRequest:
    """One whose texts nobody sent before, for a cross-encoder to read all of them."""
    texts = [f"{name} text {n} ".ljust(90, "x") for n in range(100)]
    return pb.RankRequest(
        query=f"query {name}",
        candidates=[pb.Candidate(id=str(n), text=text) for n, text in enumerate(texts)],
        options=pb.RankOptions(deadline_ms=3_000, max_reranked=100),
    )


async def _in_a_run(workers: set[int], port: int) -> int:
    """The first of two workers, with metrics on `port` and the next, that runs a model."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while True:
            for place in (port, port + 1):
                try:
                    text = (await client.get(f"http://127.0.0.1:{place}/metrics")).text
                except httpx.ConnectError:  # health is that of the other: this one starts yet
                    await asyncio.sleep(0.01)
                    continue
                runs = re.search(r"^neuralrank_queued_runs (\S+)$", text, re.MULTILINE)
                if runs and float(runs[1]):
                    return next(pid for pid in workers if place in _listening(pid))


def _listening(pid: int) -> set[int]:
    rows = psutil.Process(pid).net_connections("tcp")
    return {row.laddr.port for row in rows if row.status == psutil.CONN_LISTEN}


async def _replaced(sidecar: Running, first: set[int], victim: int, account: Account) -> None:
    """Another worker takes the place of the one that was killed, and both serve."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        now = {child.pid for child in sidecar.children()}
        if len(now) == 2 and victim not in now:
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail(f"workers {now}, at first {first}")
    async with connect(sidecar.address) as fresh:
        await asyncio.wait_for(fresh.channel_ready(), 30)
        for outcome in await ask(fresh, [request(user=f"v{n}") for n in range(8)], account):
            assert outcome.status == "OK", outcome.message


async def _statuses(address: str) -> list[pb.BundleStatus]:
    def read() -> list[pb.BundleStatus]:
        with Client(address, timeout=10.0) as client:
            return list(client.model_status().bundles)

    return await asyncio.to_thread(read)


async def _refused(address: str) -> list[pb.BundleStatus]:
    """What became of both bundles, once it is known."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        rows = await _statuses(address)
        if len(rows) == 2 and all(row.state != pb.BUNDLE_STATE_LOADING for row in rows):
            return rows
        await asyncio.sleep(0.1)
    pytest.fail(f"not decided: {rows}")
