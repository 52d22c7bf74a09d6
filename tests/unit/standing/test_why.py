"""What a product lacks that is no candidate."""

import pytest

from neuralrank.standing import Meeting, Nearness, Place, cosine_of, lacks

NEAR = Nearness(Place(250, 300, 1.7, 1.8), 0.7, None, 0.8)


def meeting(*missed: str, met: tuple[str, ...] = ()) -> Meeting:
    return Meeting("title", "a", "a", "…", (), (), met, missed)


def test_no_word_and_a_vector_that_is_too_far() -> None:
    words, vector = lacks(
        Place(None, 12, None, None), NEAR, [meeting("电", "脑"), meeting("电脑")], 100, 100
    )
    assert words.endswith("no token of the query (电, 电脑, 脑) is in it")
    assert vector == (
        "vector: place 250 of 300 is outside k = 100; its cosine is 0.700, the last one's 0.800"
    )


def test_a_query_that_asks_for_more_than_some_tokens_says_which_are_there() -> None:
    meetings = [meeting("red", met=("kettle",)), meeting("red", "kettle")]
    words, _ = lacks(Place(None, 12, None, None), NEAR, meetings, 100, 100)
    assert words.endswith("kettle are in it, and red not")


def test_words_that_are_outside_the_window() -> None:
    words, vector = lacks(Place(140, 900, 2.5, 3.0), NEAR, [], 100, 0)
    assert words == (
        "words: place 140 of 900 is outside the window of 100; its score is 2.50, the last one's "
        "3.00"
    )
    assert "no vector leg" in vector


def test_what_is_within_both_and_was_not_recalled_says_so() -> None:
    near = Nearness(Place(99, 300, 1.9, 1.8), 0.9, None, 0.8)
    words, vector = lacks(Place(100, 900, 3.0, 3.0), near, [], 100, 100)
    assert "others of the same score" in words
    assert "HNSW" in vector


def test_a_vector_that_is_missing_says_why() -> None:
    near = Nearness(None, None, None, None, "the product has none")
    assert lacks(Place(None, 0, None, None), near, [], 100, 100)[1] == (
        "vector: the product has none"
    )


@pytest.mark.parametrize(
    ("score", "space", "cosine"),
    [
        (1.8, "innerproduct", 0.8),
        (0.8, "innerproduct", -0.25),
        (1.8, "cosinesimil", 0.8),
        (0.5, "l2", None),
        (None, "innerproduct", None),
    ],
)
def test_the_cosine_behind_a_script_score(
    score: float | None, space: str, cosine: float | None
) -> None:
    assert cosine_of(score, space) == (None if cosine is None else pytest.approx(cosine))
