"""What a batch does to a score."""

import numpy as np
import pytest

from bench.models import moved


def test_the_largest_change_of_a_score_by_its_batch_is_measured() -> None:
    def score(texts: list[str]) -> np.ndarray:
        return np.array([len(text) + 0.1 * len(texts) * (text == "ab") for text in texts])

    assert moved(score, ["a", "ab", "abc"]) == pytest.approx(0.2)
    assert moved(score, ["a", "abc"]) == 0
