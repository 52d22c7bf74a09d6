"""Both click models against numbers computed by hand."""

import pytest

from neuralrank.judging import MODELS, Page, Tally, grade

# Four pages; clicks by place: 2 of 4 at place 1, 1 of 4 at place 2, 1 of 3 at place 3.
PAGES = [
    Page("Kettle", {"a": 1, "b": 2, "c": 3}, frozenset("b")),
    Page("kettle ", {"a": 1, "b": 2, "c": 3}, frozenset("ac")),
    Page("kettle", {"b": 1, "a": 2, "c": 3}, frozenset()),
    Page("shoe", {"x": 1, "y": 2}, frozenset("x")),
]


@pytest.fixture
def tally() -> Tally:
    made = Tally()
    made.add(PAGES)
    return made


def values(tally: Tally, model: str) -> dict[tuple[str, str], tuple[float, int, int]]:
    return {
        (e.query, e.item): (pytest.approx(e.value), e.seen, e.clicks)
        for e in tally.estimates(model)
    }


def test_coec_divides_clicks_by_those_of_the_places(tally: Tally) -> None:
    assert values(tally, "coec") == {
        ("kettle", "a"): (1 / (0.5 + 0.5 + 0.25), 3, 1),
        ("kettle", "b"): (1 / (0.25 + 0.25 + 0.5), 3, 1),
        ("kettle", "c"): (1 / (3 * 1 / 3), 3, 1),
        ("shoe", "x"): (1 / 0.5, 1, 1),
        ("shoe", "y"): (0 / 0.25, 1, 0),
    }


def test_sdbn_reads_to_the_last_click_which_satisfies(tally: Tally) -> None:
    assert values(tally, "sdbn") == {
        # (clicks + 1) / (read + 2) × (last clicks + 1) / (clicks + 2)
        ("kettle", "a"): (2 / 5 * 1 / 3, 3, 1),
        ("kettle", "b"): (2 / 5 * 2 / 3, 3, 1),
        # On the first page it stood below the last click: not read.
        ("kettle", "c"): (2 / 4 * 2 / 3, 2, 1),
        ("shoe", "x"): (2 / 3 * 2 / 3, 1, 1),
        ("shoe", "y"): (1 / 2 * 1 / 2, 0, 0),
    }


def test_a_place_that_nobody_clicks_promises_nothing() -> None:
    tally = Tally()
    tally.add([Page("q", {"a": 1, "b": 2}, frozenset("a"))])
    assert [estimate.item for estimate in tally.estimates("coec")] == ["a"]


def test_clicks_are_corrected_for_the_place() -> None:
    """A worse item that always stood on top is below a better one that stood last."""
    tally = Tally()
    for number in range(100):
        tally.add([Page("q", {"top": 1, "low": 9}, frozenset(["top"] if number < 30 else []))])
        tally.add([Page("q", {"low": 9}, frozenset(["low"] if number < 20 else []))])
        # What the first place gets elsewhere: clicked by everybody.
        tally.add([Page("other", {"x": 1, "y": 9}, frozenset("x"))])
    found = {(e.query, e.item): e.value for e in tally.estimates("coec")}
    assert found["q", "low"] > found["q", "top"]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.99, 1), (1.0, 2), (2.0, 3), (9, 3)]
)
def test_a_grade_is_the_number_of_thresholds_reached(value: float, expected: int) -> None:
    assert grade(value, MODELS["coec"]) == expected
