"""The formulas: bounds, absence, and what must hold whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain import Floats, Weights
from sidecar.ranking.blend import (
    as_others,
    blend,
    by_place,
    feedback,
    order,
    relevance,
    retrieval,
)

NAN = np.float32("nan")
# The default one.
SHARE = Weights(1.0, 0.0, 0.0).cross_encoder
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
    if len(given) == len(raw) or has_query or len(set(raw[given].tolist())) > 1:
        assert (np.diff(parts[ranked]) >= 0).all()
    else:  # of equal scores, that do not all have, the order of the request
        assert (np.diff(parts) < 0).all()


def test_retrieval_keeps_the_distance_between_scores() -> None:
    assert retrieval(floats(8, 4, 2), has_query=True) == pytest.approx([1.0, 0.5, 0.25])


def test_what_the_query_did_not_find_has_no_retrieval() -> None:
    assert retrieval(floats(8, NAN), has_query=True).tolist() == [1.0, 0.0]


def test_without_scores_the_order_counts() -> None:
    parts = retrieval(floats(NAN, NAN, NAN), has_query=False)
    assert parts[0] == 1.0
    assert (np.diff(parts) < 0).all()


def test_equal_scores_of_a_match_all_do_not_stand_against_what_vectors_found() -> None:
    assert np.isnan(retrieval(floats(1, 1, NAN), has_query=False, informed=True)).all()
    assert retrieval(floats(1, 1, NAN), has_query=True).tolist() == [1.0, 1.0, 0.0]


def test_where_nothing_else_orders_what_vectors_found_stays_where_it_came() -> None:
    found = retrieval(floats(NAN, 1, 1), has_query=False)
    assert found.tolist() == retrieval(floats(NAN, NAN, NAN), has_query=False).tolist()


def test_equal_scores_without_a_query_say_nothing_beside_what_orders() -> None:
    assert np.isnan(retrieval(floats(1, 1, 1), has_query=False, informed=True)).all()
    assert retrieval(floats(1, 1, 1), has_query=False).tolist() == [1.0, 1.0, 1.0]
    assert retrieval(floats(1, 1, 1), has_query=True, informed=True).tolist() == [1.0, 1.0, 1.0]
    by_sales = retrieval(floats(4, 2, 1), has_query=False, informed=True)
    assert by_sales.tolist() == [1.0, 0.5, 0.25]


def test_negative_scores_are_scaled_between_least_and_most() -> None:
    assert retrieval(floats(-1, -3, -2), has_query=True) == pytest.approx([1.0, 0.0, 0.5])


@given(parts())
def test_relevance_is_bounded_and_present_wherever_something_is_known(rows: Floats) -> None:
    mixed = relevance(rows[:, 0], rows[:, 1], rows[:, 2], SHARE)
    assert in_unit(mixed)
    known = ~np.isnan(rows[:, 0]) | ~np.isnan(rows[:, 2])
    assert np.isnan(mixed).all() if not known.any() else not np.isnan(mixed).any()


def test_one_of_which_nothing_is_known_does_not_pass_those_that_were_compared() -> None:
    nothing = np.full(4, NAN)
    mixed = relevance(floats(0.9, 0.7, 0.6, NAN), nothing, nothing, SHARE)
    assert mixed[3] < mixed[0]
    assert mixed[3] <= 0.5


def test_one_of_which_nothing_is_known_gets_what_the_callers_scores_let_expect() -> None:
    nothing, found = np.full(5, NAN), floats(1.0, 0.8, 0.6, 0.4, 0.9)
    mixed = relevance(floats(0.9, NAN, 0.5, 0.3, 0.8), nothing, nothing, SHARE, found)
    # Through 1.0 → 0.9, 0.9 → 0.8, 0.6 → 0.5, 0.4 → 0.3.
    assert mixed == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.8])
    # No further than most of the others are, however steep the line.
    mixed = relevance(floats(0.9, 0.6, 0.55, 0.5, NAN), nothing, nothing, SHARE,
                      floats(1.0, 0.98, 0.97, 0.96, 0.1))  # fmt: skip
    assert 0.5 <= mixed[4] < 0.55
    # Where what scored higher is less relevant, all that lack a vector are alike.
    mixed = relevance(floats(0.3, NAN, 0.5, 0.9, NAN), nothing, nothing, SHARE, found)
    assert mixed[1] == mixed[4] == pytest.approx((0.3 + 0.5 + 0.9) / 3)


@given(parts())
def test_what_is_expected_is_within_bounds_and_changes_nothing_that_is_known(rows: Floats) -> None:
    none = np.full(len(rows), NAN)
    found = retrieval(rows[:, 1], has_query=True)
    mixed = relevance(rows[:, 0], none, none, SHARE, found)
    known = ~np.isnan(rows[:, 0])
    assert in_unit(mixed)
    assert mixed[known] == pytest.approx(rows[known, 0])


@given(parts())
def test_being_read_is_neither_a_bonus_nor_a_penalty(rows: Floats) -> None:
    rows = rows[~np.isnan(rows[:, 0])]
    unread = relevance(rows[:, 0], rows[:, 1], np.full(len(rows), NAN), SHARE)
    mixed = relevance(rows[:, 0], rows[:, 1], rows[:, 2], SHARE)
    read = ~np.isnan(rows[:, 2])
    assert mixed[~read] == pytest.approx(unread[~read])
    if read.any() and in_unit(mixed) and ((mixed > 0) & (mixed < 1)).all():  # nothing was clipped
        assert mixed[read].mean() == pytest.approx(unread[read].mean(), abs=1e-4)


def test_one_without_a_vector_that_was_read_is_taken_for_an_average_one_of_those() -> None:
    match = floats(0.9, 0.7, NAN, 0.1, 0.1)
    found = relevance(match, floats(*[NAN] * 5), floats(0.2, 0.4, 0.3, NAN, NAN), 0.0)
    assert found[2] == pytest.approx(0.8)


def test_a_cross_encoder_turns_the_order_of_near_equals() -> None:
    match, none = floats(0.810, 0.809, 0.7, 0.6, 0.4), np.full(5, NAN)
    mixed = relevance(match, none, floats(0.1, 0.9, 0.2, 0.1, NAN), SHARE)
    assert mixed[1] > mixed[0] > mixed[2]
    assert relevance(match, none, none, SHARE) == pytest.approx(match)


def test_the_share_is_how_far_a_cross_encoder_turns_the_order_of_what_it_read() -> None:
    match, none, read = floats(0.9, 0.5, 0.4, 0.3), np.full(4, NAN), floats(0.1, 0.2, 0.3, NAN)
    orders = [
        np.argsort(-relevance(match, none, read, share), kind="stable").tolist()
        for share in (0.0, 0.2, 1.0)
    ]
    assert orders[:2] == [[0, 1, 2, 3]] * 2
    assert orders[2] == [2, 1, 0, 3]
    assert relevance(match, none, read, 0.0) == pytest.approx(match)
    for found in (match, None):  # without vectors, too
        assert relevance(none, none, read, 1.0, found)[:3].argsort().tolist() == [0, 1, 2]


def test_without_vectors_and_scores_that_count_the_reading_is_the_relevance() -> None:
    mixed = relevance(floats(NAN, NAN), floats(NAN, NAN), floats(0.9, NAN), SHARE)
    assert mixed[0] == pytest.approx(0.9)
    assert 0 < mixed[1] <= 0.5


@given(parts(), st.floats(0, 1))
def test_without_vectors_what_was_read_moves_on_the_scale_of_the_callers_scores(
    rows: Floats, share: float
) -> None:
    none, found = np.full(len(rows), NAN), retrieval(rows[:, 0], has_query=True)
    mixed = relevance(none, none, rows[:, 2], share, found)
    read = ~np.isnan(rows[:, 2])
    assert np.isnan(mixed[~read]).all()
    if read.any() and ((mixed[read] > 0) & (mixed[read] < 1)).all():  # nothing was clipped
        assert mixed[read].mean() == pytest.approx(found[read].mean(), abs=1e-4)


def test_feedback_points_to_what_the_best_have_in_common() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, *[1, 2, 3] * 3]]
    match = floats(0.9, 0.8, 0.7, *[0.1] * 9)
    centroid = feedback(match, match, vectors, np.arange(12))
    assert centroid == pytest.approx([1, 0, 0, 0])


def test_feedback_looks_at_what_may_be_shown_and_has_a_vector() -> None:
    vectors = np.eye(2, dtype=np.float32)[[0, 0, *[1] * 12]]
    match = floats(0.9, NAN, *[0.5] * 12)
    found = floats(1, 1, *[0] * 12)
    assert feedback(match, found, vectors, np.arange(1, 14)) == pytest.approx([0, 1])


def test_too_few_candidates_give_no_feedback() -> None:
    vectors = np.eye(11, dtype=np.float32)
    match = np.linspace(0.9, 0.1, 11, dtype=np.float32)
    assert feedback(match, match, vectors, np.arange(11)) is None
    assert feedback(floats(), floats(), np.zeros((0, 3), np.float32), np.arange(0)) is None


@given(parts(columns=1))
def test_those_who_lack_a_part_have_the_mean_of_the_others(rows: Floats) -> None:
    part = rows[:, 0]
    filled = as_others(part, np.arange(len(part)))
    known = ~np.isnan(part)
    assert (filled[known] == part[known]).all()
    if known.any():
        assert filled[~known] == pytest.approx(np.mean(part[known]), abs=1e-6)
        assert np.nanmin(part) <= filled.min()
        assert filled.max() <= np.nanmax(part)
    else:
        assert np.isnan(filled).all()


def test_only_those_that_may_be_shown_are_looked_at_and_filled() -> None:
    filled = as_others(floats(0.9, 0.1, NAN, NAN), np.array([1, 2]))
    assert filled == pytest.approx(floats(0.9, 0.1, 0.1, NAN), nan_ok=True)


def test_a_tie_goes_to_the_callers_score_and_then_to_the_callers_order() -> None:
    scores = floats(0.5, 0.5, 0.5, 0.9)
    assert order(scores, floats(1, 2, NAN, NAN)).tolist() == [3, 1, 0, 2]
    assert order(scores[:3], floats(NAN, NAN, NAN)).tolist() == [0, 1, 2]


@given(parts(columns=1))
def test_by_place_keeps_the_order_and_puts_what_is_absent_last(rows: Floats) -> None:
    part = rows[:, 0]
    counts = by_place(part, np.arange(len(part)))
    if np.isnan(part).all():
        assert np.isnan(counts).all()
        return
    assert in_unit(counts)
    assert counts.max() == 1.0
    filled = np.where(np.isnan(part), np.float32(-1.0), part)
    for here in range(len(part)):
        assert ((counts[here] > counts) == (filled[here] > filled)).all()


def test_by_place_is_that_of_the_paper_among_those_that_may_be_shown() -> None:
    part = floats(0.9, 0.2, 0.5, 0.5, NAN)
    counts = by_place(part, np.array([1, 2, 3, 4]))
    assert np.isnan(counts[0])  # filtered: it takes no place
    assert counts[1:] == pytest.approx([61 / 63, 1.0, 1.0, 61 / 64])
