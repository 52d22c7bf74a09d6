"""Late interaction, from lists to stored vectors, with a tiny model."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.encoders.encoder import Encoder  # noqa: E402
from neuralrank.errors import InvalidInput, NotFound  # noqa: E402
from tests.unit.conftest import tiny_bundle  # noqa: E402
from tests.unit.trainer.recipes.test_small_reranker import encoder, lists  # noqa: E402
from trainer.loop import TrainingOptions  # noqa: E402
from trainer.recipes.late_interaction.distil import LATE, Learnt, distil  # noqa: E402
from trainer.recipes.late_interaction.reading import QUERY_TOKENS, Reading  # noqa: E402
from trainer.recipes.late_interaction.serving import Kept, LateInteraction, best  # noqa: E402
from trainer.recipes.small_reranker.listed import METRIC  # noqa: E402
from trainer.recipes.small_reranker.student import make_student  # noqa: E402
from trainer.recipes.small_reranker.teacher import targets  # noqa: E402
from trainer.text import TextModel  # noqa: E402


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading(make_student(encoder(), ["phone, 手机."], {}).tokenizer, 64)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    searching = Encoder.load(tiny_bundle(tmp_path_factory.mktemp("encoder"), "encoder"))
    made = [lists(searching, count=300), lists(searching, "zh", count=300)]
    student = make_student(encoder(), [good.passage for good in made[0].goods], {"max_tokens": 64})
    options = TrainingOptions(
        out=tmp_path_factory.mktemp("run"),
        steps=150,
        batch_size=8,
        learning_rate=2e-3,
        track="none",
        every_steps=75,
    )
    return distil(student, made, [targets(one, None) for one in made], options)


def test_a_query_and_an_item_of_the_same_words_differ_by_their_mark_only(reading: Reading) -> None:
    (query,), (item,) = reading.queries(["red phone"]), reading.items(["red phone"])
    np.testing.assert_array_equal(query.ids, item.ids)
    assert set(query.types) == {0}
    assert set(item.types) == {1}


def test_a_long_query_is_cut_and_an_item_is_not(reading: Reading) -> None:
    text = "red phone " * 20
    assert len(reading.queries([text])[0]) == QUERY_TOKENS < len(reading.items([text])[0])


def test_words_and_the_whole_text_are_compared_and_punctuation_is_not(reading: Reading) -> None:
    # The tiny vocabulary has "▁" beside each word: a blank.
    (tokens,) = reading.items(["phone 手机"])
    assert reading.counted(tokens).tolist() == [True, False, True, False, True, False]
    # A text of nothing but signs still has its first token.
    (signs,) = reading.items([""])
    assert reading.counted(signs).tolist() == [True, False]


def test_each_token_of_a_query_finds_the_token_of_an_item_that_is_most_like_it() -> None:
    axes = np.eye(3, dtype=np.float32)
    items = [axes[[0, 1]], axes[[2]], axes[[2, 0]]]
    np.testing.assert_allclose(best(axes[[0, 1]], items), [1.0, 0.0, 0.5])
    # A query twice as long means the same.
    np.testing.assert_allclose(best(axes[[0, 1, 0, 1]], items), [1.0, 0.0, 0.5])
    small = [(127 * item).astype(np.int8) for item in items]
    np.testing.assert_allclose(best(axes[[0, 1]], small), [1.0, 0.0, 0.5], atol=1e-6)


def test_it_learns_and_its_graph_serves_what_it_learnt(learnt: Learnt) -> None:
    losses = [entry["loss"] for entry in learnt.outcome.history]
    assert losses[-1] < losses[0]
    assert learnt.outcome.best[METRIC] > learnt.outcome.before[METRIC] + 0.1
    assert learnt.correlation > 0.99
    assert learnt.folder.name == LATE

    model = LateInteraction(learnt.folder)
    texts = ["red desk lamp", "steel kettle", "usb cable " * 10]
    query = model.query("red desk")
    items = model.items(texts, "float32")
    together = model.score(query, items)
    apart = [model.score(query, model.items([text], "float32"))[0] for text in texts]
    np.testing.assert_allclose(together, apart, atol=1e-3)
    assert np.argmax(together) == 0
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(items), axis=1), 1.0, atol=1e-5)
    # What is stored smaller says nearly the same.
    sizes: dict[Kept, int] = {"float16": 2, "int8": 4}
    for kept, size in sizes.items():
        smaller = model.items(texts, kept)
        assert items[0].nbytes == size * smaller[0].nbytes
        found = model.score(query, smaller)
        np.testing.assert_allclose(found, together, atol=0.1 * float(np.std(together)))


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Name the folder `late` of a run"):
        LateInteraction(tmp_path)


def test_a_checkpoint_without_a_projection_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no weight 'projection\.weight'"):
        TextModel(make_student(encoder(), ["phone"], {}), "tokens")
