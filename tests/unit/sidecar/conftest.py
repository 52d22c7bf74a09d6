"""Whatever these tests count is counted under labels that docs/metrics.md lists, and what they set
up for logs is gone after them."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sidecar.telemetry.metrics import _Labelled
from tests.unit.sidecar import metric_table
from tests.unit.sidecar.parts import Bench, WordJudge


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A ranker over the shop of the tests, with a cross-encoder that compares words."""
    made = Bench(judge=WordJudge())
    yield made
    await made.close()


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


@pytest.fixture(autouse=True)
def logs_stay_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
