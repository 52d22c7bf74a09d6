"""Which bundle of a name serves: pins, rollbacks and trials, as functions of states."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.bundles.in_service import NONE, InService, Published, Trial, parse_in_service
from neuralrank.errors import InvalidInput, NotFound

A, B, C, D = (digit * 12 for digit in "abcd")


def published(*hashes: str) -> list[Published]:
    """In this order of age, oldest first."""
    return [
        Published(digits, datetime(2026, 1, 1 + day, tzinfo=UTC))
        for day, digits in enumerate(hashes)
    ]


def test_without_a_pin_the_newest_serves_and_older_ones_stand_by() -> None:
    assert InService().order(published(A, B, C)) == [C, B, A]


def test_a_pin_holds_against_what_is_published_later() -> None:
    state = InService().promoted(B, published(A, B))
    assert state.order(published(A, B, C, D)) == [B, A]


def test_promotion_and_rollback_walk_the_same_way_back() -> None:
    there = published(A, B, C)
    state = InService().promoted(A, there).promoted(B, there)
    # C served as the newest before A was pinned.
    assert state.order(there) == [B, A, C]
    state = state.rolled_back("x", there)
    assert state.order(there) == [A, C]
    state = state.rolled_back("x", there)
    assert state.order(there) == [C]
    with pytest.raises(NotFound, match="nothing to go back to"):
        state.rolled_back("x", there)


def test_a_rollback_without_a_pin_goes_to_the_one_before_the_newest() -> None:
    state = InService().rolled_back("x", published(A, B, C))
    assert state.order(published(A, B, C, D)) == [B, A]
    with pytest.raises(NotFound):
        InService().rolled_back("x", published(A))


def test_a_rollback_passes_over_what_is_not_there_any_more() -> None:
    state = InService(serving=C, history=(A, B))
    assert state.rolled_back("x", published(A, C)).serving == A


def test_a_candidate_never_serves_by_being_the_newest() -> None:
    state = InService().trying("canary", Trial(hash=C, percent=5), published(A, B, C))
    assert state.order(published(A, B, C)) == [B]
    promoted = state.promoted(C, published(A, B, C))
    assert (promoted.serving, promoted.canary, promoted.history) == (C, None, (B,))


def test_what_served_before_and_is_tried_does_not_stand_by() -> None:
    """Else its trial would be on all requests if what serves did not load."""
    state = InService(serving=C, history=(A, B)).trying("canary", Trial(hash=B), published(A, B, C))
    assert state.order(published(A, B, C)) == [C, A]


def test_without_a_pin_again_a_candidate_that_nobody_promoted_stays_one() -> None:
    there = published(A, B, C, D)
    state = InService().promoted(A, published(A)).promoted(C, published(A, B, C))
    state = state.following(there, {B, C})  # D is a person's, and C was promoted
    assert state.order(there) == [D, C, A]
    assert state.following(there, {B, C}).order(there) == [D, C, A]
    assert state.rolled_back("x", there).order(there) == [C, A]
    assert state.promoted(B, there).order(there) == [B, D, C, A]
    assert state.trying("canary", Trial(hash=D), there).serving == C
    assert state.order(published(A, B)) == [A]


def test_the_newest_is_promoted_by_following_it() -> None:
    there = published(A, B)
    state = InService().trying("canary", Trial(hash=B), there).following(there, {B}, 3.0)
    assert state.order(there) == [B, A]
    assert (state.canary, state.max_slowdown) == (None, 3.0)
    # What a rollback allowed is not for what comes after it.
    back = InService().rolled_back("x", there)
    assert back.following(there, ()).max_slowdown is None
    assert InService().following((), ()).order(()) == []


def test_what_was_allowed_the_newest_stays_allowed_when_it_is_followed() -> None:
    there = published(A, B)
    state = InService().promoted(B, there, 5.0)
    assert state.following(there, ()).max_slowdown == 5.0
    assert state.following(there, (), 2.0).max_slowdown == 2.0
    # Of another bundle nothing was said.
    assert InService().promoted(A, there, 5.0).following(there, ()).max_slowdown is None


def test_under_a_pin_on_nothing_only_a_promotion_serves() -> None:
    state = InService(serving=NONE)
    assert state.order(published(A, B)) == []
    with pytest.raises(NotFound, match="before its first candidate"):
        state.rolled_back("x", published(A, B))
    with pytest.raises(InvalidInput, match="or alone"):
        state.trying("canary", Trial(hash=A), published(A, B))
    promoted = state.promoted(A, published(A, B))
    assert promoted.order(published(A, B)) == [A]
    assert promoted.promoted(B, published(A, B)).history == (NONE, A)
    assert promoted.rolled_back("x", published(A, B)).order(published(A, B)) == []


def test_the_served_bundle_is_no_candidate_of_itself() -> None:
    with pytest.raises(InvalidInput, match="in service itself"):
        InService(serving=A).trying("shadow", Trial(hash=A), published(A, B))
    with pytest.raises(InvalidInput, match="or alone"):
        InService().trying("shadow", Trial(hash=A), published(A))


@given(
    st.lists(st.sampled_from(["promote", "follow", "back", "canary", "end"]), max_size=20),
    st.lists(st.sampled_from([A, B, C, D]), min_size=20, max_size=20),
)
def test_whatever_is_done_something_published_serves_and_no_candidate(
    steps: list[str], hashes: list[str]
) -> None:
    there = published(A, B, C, D)
    state = InService()
    for step, digits in zip(steps, hashes, strict=False):
        try:
            if step == "promote":
                state = state.promoted(digits, there)
                assert state.order(there)[0] == digits
            elif step == "follow":
                state = state.following(there, {B, C})
                assert state.order(there)[0] == D
            elif step == "back":
                before = state.order(there)[0]
                state = state.rolled_back("x", there)
                assert state.order(there)[0] != before
            else:
                trial = Trial(hash=digits) if step == "canary" else None
                state = state.trying("canary", trial, there)
        except (NotFound, InvalidInput):
            pass
        assert state.order(there)
        assert not set(state.trials) & set(state.order(there)[:1])
        assert parse_in_service(state.model_dump_json().encode(), "x") == state


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 2}', b'{"serving": "../x"}', b"\xff"])
def test_a_damaged_state_says_where_it_is_and_what_to_do(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"registry/x/serving\.json.*models promote"):
        parse_in_service(data, "registry/x/serving.json")
