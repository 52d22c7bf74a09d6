"""What would lift a product by one: each claim is checked by computing the score again."""

from collections.abc import Mapping

import pytest

from neuralrank.standing import PARTS, Gap, Lift, Scored, gap

WEIGHTS = {"relevance": 0.4, "affinity": 0.2, "retrieval": 0.4}


def blend(parts: Mapping[str, float]) -> float:
    """The score as ranking.proto defines it."""
    total = sum(WEIGHTS[name] for name in parts)
    return sum(WEIGHTS[name] * value for name, value in parts.items()) / total


def scored(name: str, lexical: float | None = None, **parts: float) -> Scored:
    total = sum(WEIGHTS[part] for part in parts)
    weights = {part: WEIGHTS[part] / total for part in parts}
    return Scored(name, "", blend(parts), parts, weights, lexical)


ABOVE = scored("above", 10.0, relevance=0.8, affinity=0.6, retrieval=1.0)
MINE = scored("mine", 8.0, relevance=0.9, affinity=0.5, retrieval=0.8)


def lifts(found: Gap) -> dict[str, Lift]:
    return {lift.part: lift for lift in found.lifts}


def test_the_gap_is_split_by_part_and_said() -> None:
    found = gap(MINE, ABOVE, [ABOVE, MINE])
    assert found.points == pytest.approx(ABOVE.score - MINE.score)
    assert sum(found.by_part.values()) == pytest.approx(found.points)
    assert found.by_part["relevance"] < 0 < found.by_part["affinity"]
    assert "pass above" in found.words
    assert "retrieval +0.080" in found.words
    assert "relevance −0.040" in found.words


@pytest.mark.parametrize("part", PARTS)
def test_with_what_is_needed_the_score_is_that_of_the_one_above(part: str) -> None:
    mine = scored("mine", 8.0, relevance=0.88, affinity=0.5, retrieval=0.925)
    lift = lifts(gap(mine, ABOVE, [ABOVE, mine]))[part]
    assert lift.needed is not None
    assert blend({**mine.parts, part: lift.needed}) == pytest.approx(ABOVE.score)
    assert "would do" in lift.words


def test_a_part_that_is_full_or_would_have_to_be_more_cannot() -> None:
    mine = scored("mine", 2.0, relevance=1.0, affinity=0.5, retrieval=0.2)
    found = lifts(gap(mine, ABOVE, [ABOVE, mine]))
    assert found["relevance"].needed is None
    assert "is 1 already" in found["relevance"].words
    assert found["affinity"].needed is None
    assert "1 is most" in found["affinity"].words
    assert found["retrieval"].needed is not None


def test_retrieval_is_said_as_a_lexical_score() -> None:
    words = lifts(gap(MINE, ABOVE, [ABOVE, MINE]))["retrieval"].words
    needed = 0.8 + (ABOVE.score - MINE.score) / 0.4
    assert words.endswith(f"a lexical score of {needed * 10:.2f} instead of 8.00")


def test_scores_that_are_no_share_of_the_largest_are_not_translated() -> None:
    shifted = scored("above", -1.0, relevance=0.8, affinity=0.6, retrieval=1.0)
    mine = scored("mine", -3.0, relevance=0.9, affinity=0.3, retrieval=0.8)
    assert "lexical" not in lifts(gap(mine, shifted, [shifted, mine]))["retrieval"].words


def test_a_part_that_is_lacking_would_share_the_weight() -> None:
    mine = scored("mine", 9.0, relevance=0.8, retrieval=0.9)
    above = scored("above", 10.0, relevance=0.86, affinity=0.9, retrieval=0.86)
    lift = lifts(gap(mine, above, [above, mine]))["affinity"]
    assert lift.now is None
    assert lift.needed is not None
    assert blend({**mine.parts, "affinity": lift.needed}) == pytest.approx(above.score)


def test_a_part_that_nobody_has_cannot_lift() -> None:
    above = scored("above", 10.0, relevance=0.9, retrieval=1.0)
    mine = scored("mine", 9.0, relevance=0.8, retrieval=0.9)
    lift = lifts(gap(mine, above, [above, mine]))["affinity"]
    assert (lift.needed, lift.words) == (None, "affinity can't: no product of this page has one")


def test_what_is_nearly_equal_is_said_in_the_digits_that_differ() -> None:
    """It was "more than 0.000 …, which is ahead by ." and "0.897 instead of 0.897"."""
    above = scored("above", 5.391, relevance=0.8, affinity=0.6, retrieval=0.8985)
    mine = scored("mine", 5.382, relevance=0.8, affinity=0.6, retrieval=0.8970)
    found = gap(mine, above, [above, mine])
    assert found.words == (
        "It needs more than 0.00060 to pass above, which is ahead by retrieval +0.00060."
    )
    assert [lift.words for lift in found.lifts] == [
        "relevance of more than 0.8015 instead of 0.8000 would do",
        "affinity of more than 0.6030 instead of 0.6000 would do",
        "retrieval of more than 0.8985 instead of 0.8970 would do: a lexical score of 5.3910 "
        "instead of 5.3820",
    ]


def test_between_equals_anything_more_would_do() -> None:
    twin = Scored("twin", "", MINE.score, MINE.parts, MINE.weights, 9.0)
    found = gap(MINE, twin, [twin, MINE])
    assert found.points == 0
    assert "Its score is that of twin" in found.words
    assert lifts(found)["relevance"].words == "relevance of anything more than 0.900 would do"


def test_an_entry_of_the_response_is_read() -> None:
    entry = {
        "relevance": 0.5,
        "retrieval": 1.0,
        "weights": {"relevance": 0.5, "retrieval": 0.5, "affinity": 0.0},
        "retrieval_score": 4.0,
        "summary": "…",
    }
    found = Scored.of("A", "a", 0.75, entry)
    assert set(found.parts) == set(found.weights) == {"relevance", "retrieval"}
    assert (found.lexical, found.pull("relevance"), found.pull("affinity")) == (4.0, 0.25, 0.0)


def test_by_place_what_is_needed_is_a_place_that_is_enough() -> None:
    def counts(**places: int) -> dict[str, float]:
        return {part: 61 / (60 + place) for part, place in places.items()}

    mine = scored("mine", 8.0, **counts(relevance=9, affinity=3, retrieval=7))
    above = scored("above", 10.0, **counts(relevance=2, affinity=4, retrieval=8))
    found = lifts(gap(mine, above, [above, mine], by_place=True))
    lift = found["relevance"]
    assert lift.words == "place 3 by relevance instead of 9 would do"
    assert lift.needed == pytest.approx(61 / 63)
    assert blend({**mine.parts, "relevance": 61 / 63}) > above.score
    assert blend({**mine.parts, "relevance": 61 / 64}) < above.score
    assert "lexical" not in found["retrieval"].words
    assert "can't" in found["affinity"].words


def novel(name: str, score: float, **parts: float) -> Scored:
    """As the sidecar explains it where a quarter of the score is novelty."""
    weights = {**WEIGHTS, "diversity": 0.25}
    return Scored.of(name, "", score, {**parts, "weights": weights})


@pytest.mark.parametrize("part", PARTS)
def test_with_novelty_the_parts_have_what_it_leaves(part: str) -> None:
    parts = {"relevance": 0.8, "affinity": 0.5, "retrieval": 0.7}
    mine = novel("mine", 0.75 * blend(parts) + 0.25 * 0.4, **parts, novelty=0.4)
    above = novel("above", mine.score + 0.02, **{**parts, "novelty": 0.48})
    found = gap(mine, above, [above, mine])
    assert sum(found.by_part.values()) == pytest.approx(found.points)
    assert "novelty +0.020" in found.words
    needed = lifts(found)[part].needed
    assert needed is not None
    assert 0.75 * blend({**parts, part: needed}) + 0.25 * 0.4 == pytest.approx(above.score)


def test_with_novelty_a_part_that_is_lacking_would_count_beside_the_others() -> None:
    has = {"relevance": 0.6, "retrieval": 0.7}
    whole = {"relevance": 0.7, "affinity": 0.6, "retrieval": 0.7}
    above = novel("above", 0.75 * blend(whole) + 0.25 * 0.5, **whole, novelty=0.5)
    shares = {name: WEIGHTS[name] / 0.8 for name in has}
    said = {**has, "novelty": 0.5, "weights": {**shares, "diversity": 0.25}}
    mine = Scored.of("mine", "", 0.75 * blend(has) + 0.25 * 0.5, said)
    needed = lifts(gap(mine, above, [above, mine]))["affinity"].needed
    assert needed is not None
    assert 0.75 * blend({**has, "affinity": needed}) + 0.125 == pytest.approx(above.score)
