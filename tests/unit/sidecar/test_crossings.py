"""Sums over what a result passed, against comparing each with each."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sidecar.ranking.crossings import crossings


@given(st.data())
@settings(max_examples=60)
def test_the_sums_are_those_of_comparing_each_with_each(data: st.DataObject) -> None:
    count = data.draw(st.one_of(st.integers(0, 10), st.integers(100, 700)))
    scores = data.draw(
        arrays.arrays(np.float32, count, elements=st.floats(0, 1, width=32), fill=st.just(0.5))
    )
    values = data.draw(
        arrays.arrays(np.float32, (count, 2), elements=st.floats(0, 1, width=32), fill=st.just(1))
    )
    below, above = crossings(scores, values)
    places = np.arange(count)
    lower = (places < places[:, None]) & (scores < scores[:, None])
    higher = (places > places[:, None]) & (scores > scores[:, None])
    assert below == pytest.approx(lower @ values.astype(float), abs=1e-4)
    assert above == pytest.approx(higher @ values.astype(float), abs=1e-4)


def test_ten_times_as_many_take_no_hundred_times_as_long() -> None:
    def seconds(count: int) -> float:
        scores = np.random.default_rng(count).random(count).astype(np.float32)
        values = np.ones((count, 4), np.float32)
        taken = []
        for _ in range(5):
            start = time.process_time()
            crossings(scores, values)
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(20_000) < 50 * seconds(2_000)
