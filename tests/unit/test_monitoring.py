"""The dashboard and the rules for Prometheus ask only for what the sidecar says."""

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import promql_parser as promql
import pytest
import yaml

import sidecar
from sidecar.deadline import Deadline
from sidecar.inference.cost import Cost
from sidecar.settings import SidecarSettings
from sidecar.telemetry.metrics import Metrics
from tests.unit.sidecar import metric_table
from tests.unit.sidecar.parts import spelled
from tests.unit.sidecar.quantiles import buckets, quantile
from tests.unit.sidecar.test_inference import inference
from tests.unit.sidecar.test_large_beside_small import Held

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/neuralrank.json").read_text("utf-8"))
GROUPS = yaml.safe_load((DEPLOY / "helm/neuralrank/rules.yml").read_text("utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ROWS = metric_table.documented()
# Labels that Prometheus adds to what it reads.
TARGET = {"job", "instance", "namespace", "pod"}
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds",
           "process_max_fds"}  # fmt: skip


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def plain(expression: str) -> str:
    """A query without Grafana's variables."""
    replaced = expression.replace("$__rate_interval", "5m").replace("$__range", "1h")
    return re.sub(r"\$\w+", "x", replaced)


QUERIES = [
    (panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", [])
]
EXPRESSIONS = [(title, plain(query)) for title, query in QUERIES] + [
    (rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES
]


def selectors(expression: str) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(promql.parse(expression), visit)
    return found


def series() -> dict[str, set[str]]:
    """What can be asked for, with its labels."""
    known = {name: set(TARGET) for name in PROCESS} | {
        name: TARGET | {"bundle"} for name in RECORDED
    }
    for name, row in ROWS.items():
        labels = TARGET | set(row.labels)
        if row.kind == "histogram":
            parts = {"sum": labels, "count": labels, "bucket": labels | {"le"}}
            shown = {f"{name}_{part}": labels for part, labels in parts.items()}
            known |= {series: shown[series] for series in metric_table.shown() & set(shown)}
        else:
            known[name] = labels
    return known


SERIES = series()


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_a_query_asks_for_what_there_is(where: str, expression: str) -> None:
    found = selectors(expression)
    assert found, where
    for selector in found:
        assert selector.name in SERIES, where
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= SERIES[selector.name], where
        row = ROWS.get(selector.name)
        for matcher in selector.matchers.matchers:
            closed = row.labels.get(matcher.name) if row else None
            if closed:
                assert set(matcher.value.split("|")) <= set(closed), where
    grouped = {
        label
        for names in re.findall(r"by \(([^)]*)\)", expression)
        for label in re.split(r",\s*", names)
    }
    assert grouped <= set.union(*(SERIES[selector.name] for selector in found)), where


def test_prometheus_without_the_operator_reads_pods_often_enough_and_tells_them_apart() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/scrape.yml").read_text("utf-8"))
    (scrape,) = config["scrape_configs"]
    values = yaml.safe_load((DEPLOY / "helm/neuralrank/values.yaml").read_text("utf-8"))
    # A rate needs two readings within the minute that it is over.
    for interval in (scrape["scrape_interval"], values["serviceMonitor"]["interval"]):
        assert int(interval.removesuffix("s")) <= 30
    given = {rule["target_label"] for rule in scrape["relabel_configs"] if "target_label" in rule}
    # The others Prometheus gives by itself.
    assert given | {"job", "instance"} == TARGET
    jobs = {
        matcher.value
        for rule in RULES
        for selector in selectors(rule["expr"])
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert all(re.fullmatch(pattern, scrape["job_name"]) for pattern in jobs)


def test_a_name_that_there_is_not_would_be_found() -> None:
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_there_is("x", "rate(neuralrank_requests[5m])")
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_there_is("x", 'neuralrank_model_bundles{state="gone"}')
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_there_is("x", "sum by (user) (neuralrank_queued_runs)")


def test_panels_are_whole_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if "alert" in rule], ids=lambda r: r["alert"]
)
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "action"}
    # Without a comparison it would fire for ever.
    assert re.search(r"(?:==|[<>]) ?[\d.e]+$", rule["expr"])


def test_the_alert_of_memory_comes_before_the_charts_limit_ends_the_pod() -> None:
    values = yaml.safe_load((DEPLOY / "helm/neuralrank/values.yaml").read_text("utf-8"))
    limit = values["memory"]["limit"]
    assert limit.endswith("Gi")
    (rule,) = (rule for rule in RULES if rule.get("alert") == "NeuralrankMemory")
    threshold = float(rule["expr"].rpartition("> ")[2])
    # What full caches take is no reason to wake anybody.
    full = 893 * 2**20
    assert full < threshold < float(limit.removesuffix("Gi")) * 2**30


def alert(name: str) -> tuple[str, float]:
    """What an alert looks at, and what that must be above for it to fire."""
    (rule,) = (rule for rule in RULES if rule.get("alert") == name)
    expression, _, threshold = rule["expr"].rpartition(" > ")
    return expression, float(threshold)


async def test_the_alert_of_the_queue_fires_where_runs_wait_and_only_there() -> None:
    expression, threshold = alert("NeuralrankQueueLong")
    assert expression.startswith("histogram_quantile(0.95,")
    queue = "neuralrank_queue_seconds"
    # Where nothing need be guessed between two buckets: one in twenty waits for longer.
    assert threshold in buckets(Metrics(), queue)

    swamped, judge, settings = Metrics(), Held(), SidecarSettings()
    made = inference(swamped)

    async def read(seconds: float) -> bool:
        pairs, deadline = [spelled("red\nphone")], Deadline.after(seconds)
        scores, _ = await made.score(judge, Cost(), "red", ["phone"], pairs, deadline)
        return not np.isnan(scores).any()

    first = asyncio.ensure_future(read(60.0))
    await asyncio.to_thread(judge.entered.wait, 10)
    seconds = (settings.deadline_ms - settings.margin_ms) / 1_000
    assert not any(await asyncio.gather(*(read(seconds) for _ in range(40))))
    judge.go.set()
    assert await first
    made.close()
    assert quantile(0.95, buckets(swamped, queue)) > threshold

    calm = Metrics()
    for number in range(100):
        calm.queue(0.03 if number % 25 == 0 else 0.002)
    assert quantile(0.95, buckets(calm, queue)) < threshold


def test_the_alert_of_opensearch_looks_at_its_reads_and_at_nothing_else() -> None:
    expression, _ = alert("NeuralrankOpenSearchSilent")
    name = "neuralrank_opensearch_reads_total"
    assert {selector.name for selector in selectors(expression)} == {name}
    bad, every = expression.split(" / ")
    outcomes = ROWS[name].labels["outcome"]
    assert {one for one in outcomes if one in bad} == set(outcomes) - {"done"}
    assert "outcome" not in every


# Why a request is refused that more replicas would not answer either: who may not ask, has had its
# share, or came while a sidecar was stopping.
NOT_OVERLOADED = {"unauthenticated", "caller_limit", "stopping"}


def reasons_in_the_code() -> set[str]:
    """What is counted as a reason anywhere in the sidecar, in so many words."""
    calls = (
        node
        for path in (Path(sidecar.__file__).parent).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    )
    return {
        call.args[0].value
        for call in calls
        if getattr(call.func, "attr", "") in ("refused", "_refuse")
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


def test_the_alert_of_refusals_knows_every_reason_that_means_overload() -> None:
    name = "neuralrank_refused_requests_total"
    known = set(ROWS[name].labels["reason"])
    # Whoever adds one says which it is: here, in the rule, and in docs/metrics.md.
    assert reasons_in_the_code() == known
    expression, _ = alert("NeuralrankRefuses")
    (counted,) = {
        matcher.value
        for selector in selectors(expression)
        if selector.name == name
        for matcher in selector.matchers.matchers
    }
    assert f'reason=~"{counted}"' in expression
    assert set(counted.split("|")) == known - NOT_OVERLOADED


def test_the_dashboard_has_the_times_of_every_method_that_works() -> None:
    methods = ROWS["neuralrank_request_seconds"].labels["method"]
    shown = {
        method
        for _, query in QUERIES
        for selector in selectors(plain(query))
        if selector.name == "neuralrank_request_seconds_bucket"
        for matcher in selector.matchers.matchers
        if matcher.name == "method"
        for method in matcher.value.split("|")
    }
    # Of the others nobody waits for a page.
    assert set(methods) - shown == {"ModelStatus", "other"}


def test_replicas_are_added_before_the_alert_of_the_queue_wakes_anybody() -> None:
    values = yaml.safe_load((DEPLOY / "helm/neuralrank/values.yaml").read_text("utf-8"))
    # Runs wait unevenly: one in twenty for five times the mean and more.
    target = values["autoscaling"]["queueMilliseconds"] / 1_000
    assert 5 * target < alert("NeuralrankQueueLong")[1]


def test_recorded_names_follow_the_convention_and_are_used_once() -> None:
    names = [rule["record"] for rule in RULES if "record" in rule]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+:neuralrank_[a-z_]+:[a-z0-9]+", name) for name in names)
