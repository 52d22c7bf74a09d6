"""Metrics: what they count, and that the documentation and they say the same."""

import re
from pathlib import Path
from typing import Never

import grpc
import numpy as np
import pytest

from neuralrank.errors import Unavailable
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import DegradedReason
from sidecar.models.serving import State
from sidecar.settings import SidecarSettings
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.trace import STAGES
from tests.unit.sidecar import metric_table
from tests.unit.sidecar.parts import Bench, WordJudge, request
from tests.unit.sidecar.quantiles import buckets, quantile
from tests.unit.sidecar.secured import secured
from tests.unit.sidecar.test_service import serving
from tests.unit.sidecar.web import web

DOCUMENTED = metric_table.documented()
LABELS = metric_table.label_names()
HISTOGRAMS = [
    name for name, family in metric_table.families().items() if family.type == "histogram"
]
UNITS = ("seconds", "bytes", "ratio", "info", "total", "requests", "runs", "bundles")
# Where the code knows all values of a label.
CLOSED = {
    ("neuralrank_stage_seconds", "stage"): STAGES,
    ("neuralrank_degraded_answers_total", "reason"): tuple(
        reason.value for reason in DegradedReason
    ),
    ("neuralrank_model_bundles", "state"): tuple(state.value for state in State),
}


def test_documentation_and_code_name_the_same_metrics() -> None:
    assert set(DOCUMENTED) == set(metric_table.families()) == set(LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_a_metric_is_documented_with_its_kind_its_labels_and_its_unit(name: str) -> None:
    row = DOCUMENTED[name]
    assert row.kind == metric_table.families()[name].type
    # `backend` of the build is a value of an info, which has no label names of its own.
    if row.kind != "info":
        assert tuple(row.labels) == LABELS[name]
    assert row.says
    assert re.fullmatch(rf"neuralrank_[a-z_]+_({'|'.join(UNITS)})", name)


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_has_what_it_is_read_as(name: str) -> None:
    # One whose buckets begin below 0 has no sum, and so no mean.
    assert {f"{name}_bucket", f"{name}_sum", f"{name}_count"} <= metric_table.shown()


@pytest.mark.parametrize(("key", "values"), CLOSED.items())
def test_the_values_of_a_label_are_documented(
    key: tuple[str, str], values: tuple[str, ...]
) -> None:
    name, label = key
    assert set(DOCUMENTED[name].labels[label]) == set(values)


SOURCES = "".join(
    path.read_text("utf-8")
    for folder in ("sidecar", "neuralrank/backends")
    for path in (Path(__file__).resolve().parents[3] / folder).rglob("*.py")
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_value_that_is_documented_is_somewhere_in_the_code(name: str) -> None:
    for label, values in DOCUMENTED[name].labels.items():
        for value in values:
            # Stages and states are listed in tests above; gRPC's methods are the service's.
            assert f'"{value}"' in SOURCES or f"def {value}(" in SOURCES, (label, value)


async def test_what_a_whole_sidecar_shows_has_documented_labels(tmp_path: Path) -> None:
    async with secured(tmp_path) as made:
        await made.loaded()
        shown = {
            (family.name + ("_total" if family.type == "counter" else ""), label, value)
            for family in made.metrics.registry.collect()
            for sample in family.samples
            for label, value in sample.labels.items()
            if label != "le"
        }
    assert {("neuralrank_cache_bytes", "cache", "taste")} < shown
    assert (
        metric_table.undocumented(row for row in shown if row[1] in LABELS.get(row[0], ())) == set()
    )


DEGRADED = "neuralrank_degraded_answers_total"


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_rank_is_counted_whole() -> None:
    bench = Bench(judge=WordJudge())
    try:
        await bench.rank(request("C", "D", "B", "A", query="apple computer"))
    finally:
        await bench.close()
    metrics = bench.metrics
    # A, B, C, D out of C, D, B, A: of six pairs, C still comes before D.
    assert value(metrics, "neuralrank_order_distance_ratio_count") == 1
    assert value(metrics, "neuralrank_order_distance_ratio_sum") == pytest.approx(5 / 6)
    assert value(metrics, "neuralrank_reranked_candidates_total") == 4
    for bundle in ("words@000000000001", "judge@000000000002"):
        assert value(metrics, "neuralrank_top_score_ratio_sum", bundle=bundle) == pytest.approx(1.0)
        assert (
            value(metrics, "neuralrank_inference_seconds_count", bundle=bundle, backend="words") > 0
        )
    # A sign is a token to these models: the query once, and with each of four texts.
    tokens = "neuralrank_inference_padded_tokens_total"
    assert value(metrics, tokens, bundle="words@000000000001", backend="words") == 14
    assert value(metrics, tokens, bundle="judge@000000000002", backend="words") >= 4 * 14
    assert value(metrics, "neuralrank_queue_seconds_count") == 2
    assert value(metrics, "neuralrank_partial_answers_total") == 0


async def test_an_answer_of_one_candidate_has_no_order_that_could_differ() -> None:
    bench = Bench(judge=WordJudge())
    try:
        assert len((await bench.rank(request("C", query="apple"))).results) == 1
    finally:
        await bench.close()
    assert value(bench.metrics, "neuralrank_order_distance_ratio_count") == 0


async def test_an_answer_is_partial_when_something_was_left_out_and_not_for_a_new_user() -> None:
    bench = Bench(judge=WordJudge())
    try:
        async with serving(bench) as stub:
            await stub.Rank(request(query="apple", user="new"))
            assert value(bench.metrics, "neuralrank_partial_answers_total") == 0
            assert value(bench.metrics, DEGRADED, reason="no_user") == 1
            await stub.Rank(request(query="苹果"))  # no cross-encoder for Chinese
            assert value(bench.metrics, "neuralrank_partial_answers_total") == 1
            # What fails is no answer, whatever was noted until then.
            with pytest.raises(grpc.RpcError, match="'Z'"):
                await stub.Rank(request(similar_to="Z", user="new"))
            assert value(bench.metrics, DEGRADED, reason="no_user") == 1
    finally:
        await bench.close()


async def test_an_answer_over_http_is_degraded_and_no_partial_answer_of_rank() -> None:
    bench = Bench(judge=WordJudge())
    try:
        async with web(bench) as client:
            # No text in the language that the named model knows: the encoder compares.
            asked = {"query": "苹果", "documents": ["phone"], "model": "judge"}
            answer = await client.post("/v1/rerank", json=asked)
        assert answer.headers["x-neuralrank-degraded"] == "model_unavailable"
        assert value(bench.metrics, DEGRADED, reason="model_unavailable") == 1
        assert value(bench.metrics, "neuralrank_partial_answers_total") == 0
    finally:
        await bench.close()


def test_a_quantile_can_tell_a_rerank_that_took_all_of_its_time() -> None:
    metrics = Metrics()
    allowed = SidecarSettings().http_deadline_ms / 1_000
    metrics.request("/v1/rerank", "OK", allowed)
    counts = buckets(metrics, "neuralrank_request_seconds", method="/v1/rerank")
    assert quantile(1.0, counts) == allowed


async def test_an_answer_with_two_details_of_a_reason_counts_once() -> None:
    bench = Bench()
    try:

        async def silent(*_: object) -> Never:
            raise Unavailable("down")

        async with serving(bench) as stub:
            await stub.Rank(request(query="apple"))  # the index is known from here on
            bench.clock.now += 1.0
            bench.catalogue.events = silent  # type: ignore[method-assign]
            bench.catalogue.items = silent  # type: ignore[method-assign]
            answer = await stub.Rank(request("new", query="apple", user="a"))
        reasons = [note.reason for note in answer.degraded]
        assert reasons.count(pb.DEGRADED_REASON_FEATURES_UNAVAILABLE) == 2
        assert value(bench.metrics, DEGRADED, reason="features_unavailable") == 1
    finally:
        await bench.close()


def test_a_bundle_that_left_is_forgotten_and_counts_anew_when_it_comes_back() -> None:
    metrics = Metrics()
    for bundle in ("a@1", "b@2"):
        metrics.inference(bundle, "words", 0.1, 12)
        metrics.top_score(bundle, np.array([0.2, np.nan, 0.7], np.float32))
    metrics.keep_bundles({"b@2"})
    names = ("neuralrank_inference_seconds_count", "neuralrank_top_score_ratio_count")
    seen = {
        (sample.name, sample.labels["bundle"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in names
    }
    assert seen == {(name, "b@2") for name in names}
    metrics.inference("a@1", "words", 0.1, 12)
    assert value(metrics, names[0], bundle="a@1", backend="words") == 1


def test_a_bundle_may_run_first_while_others_are_forgotten() -> None:
    metrics = Metrics()

    class RunsMeanwhile(set[str]):
        def __contains__(self, ref: object) -> bool:
            metrics.inference("new@1", "cpu", 0.001, 1)  # as a thread of a model does
            return super().__contains__(ref)

    for ref in ("a@1", "b@1"):
        metrics.inference(ref, "cpu", 0.001, 1)
    metrics.keep_bundles(RunsMeanwhile({"a@1"}))
    runs = "neuralrank_inference_seconds_count"
    assert [value(metrics, runs, bundle=ref, backend="cpu") for ref in ("a@1", "b@1")] == [1, 0]


def test_a_bundle_that_gave_no_score_has_no_top_score() -> None:
    metrics = Metrics()
    metrics.top_score("a@1", np.array([np.nan], np.float32))
    metrics.top_score("a@1", np.zeros(0, np.float32))
    assert value(metrics, "neuralrank_top_score_ratio_count", bundle="a@1") == 0


def test_a_shadow_that_does_the_same_is_seen_to_agree_wholly() -> None:
    metrics = Metrics()
    distance = "neuralrank_shadow_order_distance_ratio"
    drift = "neuralrank_shadow_score_drift_ratio"
    for _ in range(100):
        metrics.agreement("a@1", 1.0, 1.0, 0.0)
    for share in (0.1, 0.5, 0.9):
        assert quantile(share, buckets(metrics, distance, bundle="a@1")) == 0.0
        for direction in ("higher", "lower"):
            counts = buckets(metrics, drift, bundle="a@1", direction=direction)
            assert quantile(share, counts) == 0.0


def test_means_of_a_shadow_can_be_told_from_its_sums() -> None:
    metrics = Metrics()
    for tau, drift in ((1.0, 0.3), (0.0, -0.1), (-1.0, 0.0)):
        metrics.agreement("a@1", tau, 1.0, drift)
    distance = value(metrics, "neuralrank_shadow_order_distance_ratio_sum", bundle="a@1")
    assert 1 - 2 * distance / 3 == pytest.approx(0.0)
    sums = [
        value(metrics, f"neuralrank_shadow_score_drift_ratio_{part}", bundle="a@1", direction=way)
        for part in ("sum", "count")
        for way in ("higher", "lower")
    ]
    assert sums == pytest.approx([0.3, 0.1, 3, 3])
    assert (sums[0] - sums[1]) / sums[2] == pytest.approx((0.3 - 0.1) / 3)
    metrics.keep_bundles(set())
    assert value(metrics, "neuralrank_shadow_order_distance_ratio_count", bundle="a@1") == 0


def test_sizes_and_states_are_asked_for_when_the_metrics_are_read() -> None:
    metrics, kept = Metrics(), [10, 2]
    metrics.watch_cache("item", lambda: kept[0])
    metrics.watch_bundles("refused", lambda: kept[1])
    kept[:] = [20, 3]
    assert value(metrics, "neuralrank_cache_bytes", cache="item") == 20
    assert value(metrics, "neuralrank_model_bundles", state="refused") == 3
