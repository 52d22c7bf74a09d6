"""Bundles that come and go under a running sidecar: a process of its own, over real gRPC. None of
this needs OpenSearch. `python -m bench swaps` does it a thousand times."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.running import Running
from bench.swaps import alone, swap_under_load
from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.client import Client
from neuralrank.v1 import ranking_pb2 as pb
from tests.conftest import neuralrank
from tests.tiny import tiny_cross_encoder
from tests.unit.sidecar.test_models import BAD, moved
from tests.unit.trainer.evaluation.shop import as_ranked_by

SWAPS = 30
NAME = "swapped"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return [tiny_cross_encoder(folder / str(seed), seed) for seed in range(4)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "models").mkdir()
    return Registry(str(tmp_path / "models"))


def started(registry: Registry, log: Path, max_slowdown: int) -> Running:
    return Running(
        log,
        opensearch_url="http://127.0.0.1:1",
        registry=registry.url,
        registry_poll_seconds=0.05,
        max_slowdown=max_slowdown,
    )


@pytest.fixture
def running(registry: Registry, bundles: list[Bundle], tmp_path: Path) -> Iterator[Running]:
    """A sidecar that serves the first bundle."""
    registry.publish(bundles[0])
    with started(registry, tmp_path / "sidecar.log", 50) as sidecar:
        sidecar.ready()
        yield sidecar


def status(sidecar: Running, ref: str) -> pb.BundleStatus | None:
    with Client(sidecar.address) as client:
        rows = {f"{row.name}@{row.hash}": row for row in client.model_status().bundles}
    return rows.get(ref)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def serves(sidecar: Running, ref: str) -> bool:
    row = status(sidecar, ref)
    return row is not None and pb.BUNDLE_ROLE_SERVING in row.roles


def is_refused(sidecar: Running, ref: str) -> bool:
    """As too slow, where three times as slow is allowed."""
    row = status(sidecar, ref)
    return (
        row is not None
        and row.state == pb.BUNDLE_STATE_REFUSED
        and "allowed is 3 times" in row.reason
    )


def scored_by(sidecar: Running, user: str = "") -> str:
    with Client(sidecar.address) as client:
        request = pb.RankRequest(
            query=f"kettle {time.perf_counter_ns() % 10**6}",
            language="en",
            candidates=[pb.Candidate(id=t, text=t) for t in ("red kettle", "phone")],
            options=pb.RankOptions(deadline_ms=5_000),
        )
        if user:
            request.user.id = user
            request.user.profile.SetInParent()
        (ref,) = client.rank(request).bundles
    return str(ref)


def test_swaps_under_load_lose_no_request_mix_no_scores_and_free_what_they_replace(
    running: Running, registry: Registry, bundles: list[Bundle], tmp_path: Path
) -> None:
    refs = [registry.publish(bundle).ref for bundle in bundles]
    quiet, busy, done = asyncio.run(
        swap_under_load(
            running, registry, refs, swaps=SWAPS, rate=25.0, settle=2.0, deadline_ms=5_000
        )
    )
    assert len(done.seconds) == SWAPS
    assert not busy.failures
    assert not quiet.failures
    assert len(busy.ms) > SWAPS
    assert busy.unnamed == 0
    assert {ref for _, ref, _ in busy.scored} == set(refs)
    assert sum(len(logits) for _, _, logits in busy.scored) > len(busy.scored)
    # Or there would be little to compare.
    assert busy.cut_short < 0.1 * len(busy.scored)
    score = alone(registry)
    assert busy.mixed(score) == 0
    # The comparison can fail: of another bundle every answer is wrong.
    other = dict(zip(refs, [*refs[1:], refs[0]], strict=True))
    assert busy.mixed(lambda ref, query: score(other[ref], query)) > 0.9 * len(busy.scored)
    lines = [json.loads(line) for line in (tmp_path / "sidecar.log").read_text().splitlines()]
    assert sum(line["message"] == "bundle freed" for line in lines) >= SWAPS - 1
    # Memory does not grow with the swaps; 30 tiny bundles would take 30 MB and more.
    assert done.rss_mb[-1] - done.rss_mb[SWAPS // 3] < 20
    assert done.files[-1] <= done.files[0] + 3


@pytest.mark.parametrize(("damage", "words"), [(d, w) for _, d, w in BAD], ids=[b[0] for b in BAD])
def test_a_bad_bundle_is_refused_by_name_of_what_is_wrong_and_the_old_one_serves_on(
    running: Running,
    bundles: list[Bundle],
    tmp_path: Path,
    damage: Callable[[Bundle], None],
    words: str,
) -> None:
    good = bundles[0].ref
    # Damaged where nobody looks, and moved to where it is looked for.
    away = Registry(str(tmp_path / "away"))
    bad = away.publish(bundles[1])
    damage(bad)
    try:
        folder = moved(bad)
    except ValueError:  # of a manifest that is not understood
        folder = bad.path
    folder.rename(tmp_path / "models" / NAME / folder.name)
    ref = f"{NAME}@{folder.name}"

    def refused() -> bool:
        row = status(running, ref)
        return row is not None and row.state == pb.BUNDLE_STATE_REFUSED

    until(refused)
    row = status(running, ref)
    assert row is not None
    assert words in row.reason
    assert serves(running, good)
    assert scored_by(running) == good


def test_a_bundle_slower_than_allowed_is_refused(
    registry: Registry, bundles: list[Bundle], tmp_path: Path
) -> None:
    fast = registry.publish(bundles[0])
    with started(registry, tmp_path / "sidecar.log", 3) as sidecar:
        sidecar.ready()
        until(lambda: serves(sidecar, fast.ref))
        slow = registry.publish(tiny_cross_encoder(tmp_path / "slow", 9, layers=40)).ref
        until(lambda: is_refused(sidecar, slow))
        assert scored_by(sidecar) == fast.ref
    # And is after a restart, where nothing was in service to hold it to.
    with started(registry, tmp_path / "again.log", 3) as sidecar:
        sidecar.ready()
        until(lambda: is_refused(sidecar, slow))
        assert scored_by(sidecar) == fast.ref
        registry.promote(slow, max_slowdown=1_000)
        until(lambda: serves(sidecar, slow))
        assert scored_by(sidecar) == slow


def test_a_slow_bundle_of_another_name_answers_nobody_by_a_restart(
    registry: Registry, bundles: list[Bundle], tmp_path: Path
) -> None:
    fast = registry.publish(bundles[0]).ref
    slow = registry.publish(tiny_cross_encoder(tmp_path / "slow", 9, 40, name="a-large")).ref
    with started(registry, tmp_path / "sidecar.log", 3) as sidecar:
        sidecar.ready()
        until(lambda: scored_by(sidecar) == fast)
        assert is_refused(sidecar, slow)


def test_commands_promote_roll_back_and_show_what_a_running_sidecar_does(
    running: Running, registry: Registry, bundles: list[Bundle]
) -> None:
    first, second = (registry.publish(bundle).ref for bundle in bundles[:2])
    where = {"NEURALRANK_REGISTRY": registry.url, "NEURALRANK_SIDECAR": running.address}

    def command(*words: str) -> object:
        done = neuralrank("models", *words, "--json", **where)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    until(lambda: serves(running, second))
    command("promote", first)
    until(lambda: serves(running, first))
    assert scored_by(running) == first
    command("promote", second)
    until(lambda: serves(running, second))
    assert command("rollback", NAME) == {"ref": first, "service": "serving"}
    until(lambda: serves(running, first))
    command("promote", second, "--canary", "50")
    until(lambda: pb.BUNDLE_ROLE_CANARY in (status(running, second) or pb.BundleStatus()).roles)
    answered = {user: scored_by(running, user) for user in (f"user-{n}" for n in range(24))}
    assert set(answered.values()) == {first, second}
    assert answered == {user: scored_by(running, user) for user in answered}
    command("promote", second, "--canary", "0")
    command("promote", second, "--shadow", "100")
    until(lambda: pb.BUNDLE_ROLE_SHADOW in (status(running, second) or pb.BundleStatus()).roles)
    for _ in range(5):
        assert scored_by(running) == first

    def compared() -> bool:
        row = status(running, second)
        return row is not None and row.agreement.requests >= 3

    until(compared)
    rows = {row["ref"]: row for row in command("status")}  # type: ignore[attr-defined]
    assert rows[second]["roles"] == ["shadow"]
    assert -1 <= rows[second]["agreement"]["kendall_tau"] <= 1
    assert rows[first]["roles"] == ["serving"]


class _ThroughTheGate(Registry):
    """Promotes as a person does: by the command, on a dataset."""

    def __init__(self, url: str, dataset: Path) -> None:
        super().__init__(url)
        self._dataset = str(dataset)

    def promote(self, ref: str, *, max_slowdown: float | None = None) -> str:
        assert max_slowdown is None
        if ref != self.resolve(NAME):
            options = ("--dataset", self._dataset, "--json")
            done = neuralrank("models", "promote", ref, *options, NEURALRANK_REGISTRY=self.url)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == {"ref": ref, "service": "serving"}
        return ref


def test_a_promotion_through_the_gate_loses_no_request(
    running: Running, registry: Registry, bundles: list[Bundle], tmp_path: Path
) -> None:
    served = bundles[0].ref
    better = registry.publish(bundles[1], candidate=True).ref
    as_ranked_by(bundles[1]).write(tmp_path / "data")
    assert serves(running, served)
    gate = _ThroughTheGate(registry.url, tmp_path / "data")
    quiet, busy, done = asyncio.run(
        swap_under_load(
            running, gate, [served, better], swaps=1, rate=25.0, settle=1.0, deadline_ms=5_000
        )
    )
    assert not busy.failures
    assert not quiet.failures
    assert len(busy.ms) > 10
    assert len(done.seconds) == 1
    assert {ref for _, ref, _ in busy.scored} == {served, better}
    assert busy.mixed(alone(registry)) == 0
    # One that is worse stays a candidate, and the better one serves on.
    worse = registry.publish(bundles[2], candidate=True).ref
    refused = neuralrank(
        *("models", "promote", worse, "--dataset", tmp_path / "data"),
        NEURALRANK_REGISTRY=registry.url,
    )
    assert refused.returncode == 3
    assert "nDCG@10 on held-back judgments" in refused.stderr
    listed = neuralrank("models", "candidates", "--json", NEURALRANK_REGISTRY=registry.url)
    found = {row["ref"]: row["outcome"] for row in json.loads(listed.stdout)}
    assert found == {better: "passed", worse: "refused"}
    assert scored_by(running) == better
