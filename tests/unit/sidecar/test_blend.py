"""The formulas: bounds, absence, and what must hold whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.blend import affinity, blend, order, relevance, retrieval
from sidecar.domain import Floats, Weights

NAN = np.float32("nan")
PART = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))
SCORE = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))
WEIGHT = st.floats(0, 1_000)


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


@st.composite
def parts(draw: st.DrawFn, columns: int = 3) -> Floats:
    rows = draw(st.lists(st.lists(PART, min_size=columns, max_size=columns), max_size=20))
    return np.array(rows, np.float32).reshape(-1, columns)


@st.composite
def weights(draw: st.DrawFn) -> Weights:
    values = draw(st.tuples(WEIGHT, WEIGHT, WEIGHT).filter(any))
    return Weights(*values)


def in_unit(values: Floats) -> bool:
    present = values[~np.isnan(values)]
    return bool(((present >= 0) & (present <= 1)).all())


@given(parts(), weights())
def test_a_score_lies_between_0_and_1_and_is_a_number(rows: Floats, given: Weights) -> None:
    blended = blend(rows[:, 0], rows[:, 1], rows[:, 2], given)
    assert not np.isnan(blended.scores).any()
    assert in_unit(blended.scores)


@given(parts(), weights())
def test_weights_in_force_sum_to_1_over_the_parts_that_are_there(
    rows: Floats, given: Weights
) -> None:
    shares = blend(rows[:, 0], rows[:, 1], rows[:, 2], given).weights
    assert (shares[np.isnan(rows)] == 0).all()
    total = shares.sum(axis=1)
    assert ((np.abs(total - 1) < 1e-5) | (total == 0)).all()


@given(parts(), weights())
def test_a_score_does_not_depend_on_who_stands_beside(rows: Floats, given: Weights) -> None:
    together = blend(rows[:, 0], rows[:, 1], rows[:, 2], given).scores
    alone = [blend(row[:1], row[1:2], row[2:], given).scores[0] for row in rows]
    assert together == pytest.approx(np.array(alone, np.float32).reshape(-1), abs=1e-6)


@given(st.lists(SCORE, max_size=30), st.booleans())
def test_retrieval_is_bounded_and_keeps_the_callers_order(
    scores: list[float | None], has_query: bool
) -> None:
    raw = np.array([np.nan if score is None else score for score in scores], np.float32)
    parts = retrieval(raw, has_query=has_query)
    assert in_unit(parts)
    given = np.flatnonzero(~np.isnan(raw) & ~np.isnan(parts))
    ranked = given[np.argsort(raw[given], kind="stable")]
    assert (np.diff(parts[ranked]) >= 0).all()


def test_retrieval_keeps_the_distance_between_scores() -> None:
    assert retrieval(floats(8, 4, 2), has_query=True) == pytest.approx([1.0, 0.5, 0.25])


def test_what_the_query_did_not_find_has_no_retrieval() -> None:
    assert retrieval(floats(8, NAN), has_query=True).tolist() == [1.0, 0.0]


def test_without_scores_the_order_counts() -> None:
    parts = retrieval(floats(NAN, NAN, NAN), has_query=False)
    assert parts[0] == 1.0
    assert (np.diff(parts) < 0).all()


def test_equal_scores_of_a_match_all_do_not_stand_against_what_vectors_found() -> None:
    assert np.isnan(retrieval(floats(1, 1, NAN), has_query=False)).all()
    assert retrieval(floats(1, 1, NAN), has_query=True).tolist() == [1.0, 1.0, 0.0]


def test_negative_scores_are_scaled_between_least_and_most() -> None:
    assert retrieval(floats(-1, -3, -2), has_query=True) == pytest.approx([1.0, 0.0, 0.5])


@given(parts(columns=2))
def test_relevance_is_bounded_and_present_wherever_something_is_known(rows: Floats) -> None:
    mixed = relevance(rows[:, 0], rows[:, 1])
    assert in_unit(mixed)
    known = ~np.isnan(rows[:, 0]) | ~np.isnan(rows[:, 1])
    assert not np.isnan(mixed[known]).any()


def test_reading_alone_neither_lifts_nor_lowers() -> None:
    # The cross-encoder agrees with the vectors: those that were not read keep their place.
    match = floats(0.9, 0.8, 0.7, 0.6)
    assert relevance(match, floats(0.9, 0.8, NAN, NAN)) == pytest.approx(match)


def test_a_reader_that_is_stricter_is_stricter_on_the_unread_too() -> None:
    mixed = relevance(floats(0.9, 0.9, 0.8), floats(0.5, 0.5, NAN))
    assert mixed[2] < mixed[0]


def test_without_vectors_the_reading_is_the_relevance() -> None:
    mixed = relevance(floats(NAN, NAN), floats(0.9, NAN))
    assert mixed[0] == pytest.approx(0.9)


def test_brand_and_category_alone_make_no_affinity() -> None:
    assert np.isnan(affinity(floats(NAN), floats(1), floats(1))).all()


@given(parts())
def test_affinity_is_bounded(rows: Floats) -> None:
    assert in_unit(affinity(rows[:, 0], rows[:, 1], rows[:, 2]))


def test_a_tie_goes_to_the_callers_score_and_then_to_the_callers_order() -> None:
    scores = floats(0.5, 0.5, 0.5, 0.9)
    assert order(scores, floats(1, 2, NAN, NAN)).tolist() == [3, 1, 0, 2]
    assert order(scores[:3], floats(NAN, NAN, NAN)).tolist() == [0, 1, 2]
