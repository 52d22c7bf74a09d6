"""Whatever these tests count is counted under labels that docs/metrics.md lists."""

from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.telemetry.metrics import _Labelled
from tests.unit.sidecar import metric_table


@pytest.fixture(autouse=True)
def labels_are_documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    used: set[tuple[str, str, str]] = set()
    look_up = _Labelled.__call__

    def noted(self: Any, *values: str) -> Any:
        family = self._family
        suffix = "_total" if family._type == "counter" else ""
        for label, value in zip(family._labelnames, values, strict=True):
            used.add((family._name + suffix, label, value))
        return look_up(self, *values)

    monkeypatch.setattr(_Labelled, "__call__", noted)
    yield
    assert metric_table.undocumented(used) == set()
