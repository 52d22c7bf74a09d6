"""What counts as an answer by two bundles."""

from pathlib import Path

import numpy as np

from bench.swaps import TOLERANCE, Answers, alone, shifted
from neuralrank.bundles.registry import Registry
from tests.tiny import tiny_cross_encoder


def test_the_bundles_that_are_swapped_are_told_apart_by_their_logits(tmp_path: Path) -> None:
    source = tiny_cross_encoder(tmp_path / "source", seed=0)
    (tmp_path / "models").mkdir()
    registry = Registry(str(tmp_path / "models"))
    first, second = (
        registry.publish(shifted(source, tmp_path / str(number), number)).ref for number in range(2)
    )
    score = alone(registry)
    assert np.allclose(score(second, "kettle"), score(first, "kettle") + 10 * TOLERANCE, atol=1e-5)
    right, wrong = dict(enumerate(score(first, "kettle"))), dict(enumerate(score(second, "kettle")))
    assert Answers(scored=[("kettle", first, right)]).mixed(score) == 0
    assert Answers(scored=[("kettle", first, wrong)]).mixed(score) == 1
    assert Answers(scored=[("kettle", first, {**right, 2: wrong[2]})]).mixed(score) == 1


def test_an_answer_without_the_logits_of_all_texts_is_said_and_no_mixture() -> None:
    whole = dict.fromkeys(range(5), 0.0)
    answers = Answers(scored=[("a", "b@1", {}), ("a", "b@1", {0: 0.0}), ("a", "b@1", whole)])
    assert answers.cut_short == 2
    assert answers.mixed(lambda *_: np.zeros(5)) == 0
