"""The table of docs/metrics.md, and the metrics that there are, in the same shape."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client.metrics import Histogram, MetricWrapperBase
from prometheus_client.metrics_core import Metric

from sidecar.telemetry.metrics import Metrics

DOCS = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@dataclass(frozen=True)
class Row:
    """A metric by the name that queries use; `labels` with their values, () where any may come."""

    name: str
    kind: str
    labels: dict[str, tuple[str, ...]]
    says: str


@cache
def documented() -> dict[str, Row]:
    found = {}
    for line in DOCS.read_text("utf-8").splitlines():
        match = re.match(r"\|\s*`(neuralrank_\w+)`", line)
        if match:
            _, kind, labels, says = (cell.strip() for cell in line.strip("|").split("|"))
            found[match[1]] = Row(match[1], kind, _labels(labels), says)
    return found


def undocumented(used: Iterable[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Of metric, label and value those whose value is none of those that the table lists for it."""
    rows = documented()
    return {
        (name, label, value)
        for name, label, value in used
        if name in rows and rows[name].labels[label] and value not in rows[name].labels[label]
    }


def _labels(text: str) -> dict[str, tuple[str, ...]]:
    return {
        match[1]: tuple(re.findall(r"`([^`]+)`", match[2] or ""))
        for match in re.finditer(r"`(\w+)`(?: \(([^)]*)\))?", text)
    }


def families() -> dict[str, Metric]:
    """What a sidecar that has done nothing would expose, by the name that queries use."""
    suffix = {"counter": "_total", "info": "_info"}
    return {
        family.name + suffix.get(family.type, ""): family
        for family in Metrics().registry.collect()
        if family.name.startswith("neuralrank_")
    }


def label_names() -> dict[str, tuple[str, ...]]:
    """The labels of every metric, also of those that have counted nothing yet."""
    metrics = Metrics()
    suffix = {"counter": "_total", "info": "_info"}
    return {
        wrapper._name + suffix.get(wrapper._type, ""): tuple(wrapper._labelnames)
        for wrapper in metrics.registry._collector_to_names
        if isinstance(wrapper, MetricWrapperBase)
    }


@cache
def shown() -> set[str]:
    """The series of histograms that have counted something, as `/metrics` has them."""
    metrics = Metrics()
    for wrapper in list(metrics.registry._collector_to_names):
        if isinstance(wrapper, Histogram):
            names = wrapper._labelnames
            (wrapper.labels(*names) if names else wrapper).observe(0.0)
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}
