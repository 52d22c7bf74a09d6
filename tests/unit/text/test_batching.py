import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.text.batching import token_batches


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 1000))
def test_every_text_is_in_one_batch_and_no_batch_is_too_large(
    lengths: list[int], budget: int
) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


def test_no_text_gives_no_batch() -> None:
    assert list(token_batches([])) == []
