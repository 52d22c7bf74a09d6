"""Buckets: which shapes there are, and where texts go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.backends.tensorrt.profiles import (
    Bucket,
    Profile,
    Router,
    described,
    lengths_up_to,
    profiles_for,
)
from neuralrank.errors import InvalidInput

PROFILES = profiles_for(lengths_up_to(128))
ROUTER = Router(PROFILES)


@pytest.mark.parametrize(
    ("least", "best", "most"), [(8, 4, 16), (1, 32, 16), (0, 1, 1), (-1, 1, 1)]
)
def test_a_profile_whose_numbers_are_out_of_order_is_refused(
    least: int, best: int, most: int
) -> None:
    with pytest.raises(InvalidInput, match=r"1 <= least <= best <= most"):
        Profile(64, least, best, most)


def test_lengths_end_at_the_longest_input() -> None:
    assert lengths_up_to(128) == (16, 32, 64, 128)
    # A model of 100 positions has none for a token more.
    assert lengths_up_to(100) == (16, 32, 64, 100)
    assert lengths_up_to(8) == (8,)


def test_long_texts_run_in_smaller_batches() -> None:
    assert [p.most for p in profiles_for((128, 512, 8_192))] == [256, 64, 4]
    assert described(profiles_for((128,))) == "128:1-104-256"


def test_a_model_without_an_axis_of_tokens_has_one_profile() -> None:
    (profile,) = profiles_for(())
    assert profile.shape([None, 96], 7) == (7, 96)
    assert Router([profile]).bucket(100, 0) == Bucket(104, 0)


def test_shapes_are_those_of_the_input() -> None:
    assert Profile(64, 1, 8, 16).shape([None, None], 8) == (8, 64)
    assert Profile(64, 1, 8, 16).shape([None, None, 3], 8) == (8, 64, 3)


@pytest.mark.parametrize(
    ("rows", "length", "bucket"),
    [
        (1, 5, Bucket(1, 16)),
        (3, 16, Bucket(4, 16)),
        (100, 128, Bucket(104, 128)),
        (100, 17, Bucket(104, 32)),
        (256, 64, Bucket(256, 64)),
    ],
)
def test_the_smallest_bucket_that_holds_it(rows: int, length: int, bucket: Bucket) -> None:
    assert ROUTER.bucket(rows, length) == bucket


def test_longer_than_the_longest_is_refused() -> None:
    with pytest.raises(InvalidInput, match="129 tokens; the engine takes at most 128"):
        ROUTER.bucket(1, 129)


def test_texts_run_with_those_of_their_length() -> None:
    lengths = [10] * 40 + [60] * 40 + [120] * 40
    batches = [batch.tolist() for batch in ROUTER.batches(lengths)]
    assert batches == [list(range(40)), list(range(40, 80)), list(range(80, 120))]


def test_a_few_short_texts_join_the_longer_ones() -> None:
    lengths = [10, 12, 60, 61, 62]
    (batch,) = ROUTER.batches(lengths)
    assert batch.tolist() == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(1, 128), max_size=700))
def test_every_text_runs_once_in_a_bucket_that_holds_it(lengths: list[int]) -> None:
    seen: list[int] = []
    for batch in ROUTER.batches(lengths):
        longest = max(lengths[row] for row in batch)
        bucket = ROUTER.bucket(len(batch), longest)
        assert bucket.batch >= len(batch)
        assert bucket.length >= longest
        seen += batch.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_batches_are_positions_and_take_arrays() -> None:
    (batch,) = ROUTER.batches(np.array([3, 2, 1], np.int64))
    assert batch.tolist() == [2, 1, 0]
    assert list(ROUTER.batches([])) == []
