"""The capacity that is found, of services that hold what the test says."""

from collections import Counter
from pathlib import Path

import pytest

from bench import capacity
from bench.load import Spec, Tally


class Service:
    """Holds up to `most` requests a second, and what is in `lucky` once, of however many."""

    def __init__(self, most: float, lucky: int = 0) -> None:
        self.most, self.lucky = most, lucky

    def load(self, spec: Spec, folder: Path) -> Tally:
        del folder
        if spec.callers:
            return Tally(sent=400, statuses=Counter(OK=400), ms=[1.0] * 400)
        held = spec.rate <= self.most
        if not held and self.lucky:
            self.lucky, held = self.lucky - 1, True
        return Tally(sent=10, statuses=Counter(OK=10), ms=[1.0 if held else 1_000.0] * 10)


def found(service: Service, monkeypatch: pytest.MonkeyPatch) -> tuple[float, int]:
    monkeypatch.setattr(capacity, "load", service.load)
    return capacity.find_capacity("x", Path(), Path(), deadline_ms=50, seconds=4)


def test_the_highest_rate_that_is_held_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, used = found(Service(150), monkeypatch)
    # 100, 130, 169, halfway, and once more.
    assert rate == pytest.approx(149.5)
    assert used == 400 + 5 * 10


@pytest.mark.parametrize("lucky", [1, 2, 3])
def test_a_rate_that_was_held_by_luck_is_no_capacity(
    lucky: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, _ = found(Service(100, lucky), monkeypatch)
    assert 50 < rate <= 100


def test_what_holds_nothing_has_no_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(Service(0), monkeypatch)[0] == 0
    assert found(Service(0, lucky=1), monkeypatch)[0] == 0
