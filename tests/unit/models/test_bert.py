import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidInput
from neuralrank.models.bert import write_bert
from tests.unit.conftest import CHARACTERS, CONFIG, HEADS, HIDDEN, LAYERS, tiny_bundle, tiny_weights

Array = NDArray[np.float64]


def reference(weights: dict[str, NDArray[np.float32]], ids: list[int], types: list[int]) -> Array:
    """BERT as the paper has it, in float64, for one text: [tokens, hidden]."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def linear(x: Array, key: str) -> Array:
        return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    def norm(x: Array, key: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{key}.weight"] + w[f"{key}.bias"]

    erf = np.vectorize(math.erf)
    x = norm(
        w["embeddings.word_embeddings.weight"][ids]
        + w["embeddings.position_embeddings.weight"][: len(ids)]
        + w["embeddings.token_type_embeddings.weight"][types],
        "embeddings.LayerNorm",
    )
    for layer in range(LAYERS):
        key = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{key}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(HIDDEN / HEADS)
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        mixed = (attention @ v).swapaxes(0, 1).reshape(len(ids), HIDDEN)
        x = norm(
            x + linear(mixed, f"{key}.attention.output.dense"), f"{key}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{key}.intermediate.dense")
        gelu = 0.5 * inner * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(gelu, f"{key}.output.dense"), f"{key}.output.LayerNorm")
    return x


def test_the_encoder_computes_what_the_paper_says(tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_bundle(tmp_path, "encoder"))
    ids = [2, *(4 + CHARACTERS.index(c) for c in "laptop"), 3]
    pooled = reference(tiny_weights(), ids, [0] * len(ids)).mean(0)
    expected = pooled / np.linalg.norm(pooled)
    np.testing.assert_allclose(encoder.encode_passages(["laptop"])[0], expected, atol=1e-5)


def test_the_cross_encoder_computes_what_the_paper_says(tmp_path: Path) -> None:
    model = CrossEncoder.load(tiny_bundle(tmp_path, "cross_encoder"))
    weights = tiny_weights()
    first, second = ([4 + CHARACTERS.index(c) for c in text] for text in ("mac", "laptop"))
    ids = [2, *first, 3, *second, 3]
    types = [0] * 5 + [1] * 7
    token = reference(weights, ids, types)[0]
    pooled = np.tanh(token @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    expected = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
    np.testing.assert_allclose(model.score("mac", ["laptop"]), expected, atol=1e-5)


def test_each_token_has_a_vector_that_knows_its_type() -> None:
    random = np.random.default_rng(5)
    weights = tiny_weights() | {
        "projection.weight": random.normal(0, 0.2, (6, HIDDEN)).astype(np.float32),
        "projection.bias": random.normal(0, 0.2, 6).astype(np.float32),
    }
    graph = write_bert(weights, CONFIG, "tokens", "fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    ids = [[2, 5, 6, 3], [2, 7, 3, 0]]
    types = [[1, 1, 1, 1], [0, 0, 0, 0]]
    feed = {
        "input_ids": np.array(ids),
        "token_type_ids": np.array(types),
        "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }
    (found,) = session.run(["token_embeddings"], feed)
    assert found.shape == (2, 4, 6)
    for row, length in enumerate((4, 3)):
        tokens = reference(weights, ids[row][:length], types[row][:length])
        narrow = tokens @ weights["projection.weight"].T + weights["projection.bias"]
        expected = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)


def test_int8_stays_near_fp32(tmp_path: Path) -> None:
    texts = ["laptop", "iphone 12", "笔记本电脑", "华为手机"]
    exact = Encoder.load(tiny_bundle(tmp_path / "fp32", "encoder")).encode_passages(texts)
    small = Encoder.load(tiny_bundle(tmp_path / "int8", "encoder", "int8")).encode_passages(texts)
    assert (exact * small).sum(1).min() > 0.995


@pytest.fixture(scope="module")
def int8_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, CrossEncoder]:
    folder = tmp_path_factory.mktemp("models")
    return (
        Encoder.load(tiny_bundle(folder / "encoder", "encoder", "int8")),
        CrossEncoder.load(tiny_bundle(folder / "cross", "cross_encoder", "int8")),
    )


@settings(max_examples=30)
@given(
    texts=st.lists(st.text(CHARACTERS, min_size=1, max_size=40), min_size=1, max_size=8),
    query=st.text(CHARACTERS, min_size=1, max_size=10),
)
def test_a_score_does_not_depend_on_who_shares_its_batch(
    int8_models: tuple[Encoder, CrossEncoder], texts: list[str], query: str
) -> None:
    encoder, cross_encoder = int8_models
    alone = np.concatenate([encoder.encode_passages([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_passages(texts), alone, atol=2e-3)
    alone = np.concatenate([cross_encoder.score(query, [text]) for text in texts])
    np.testing.assert_allclose(cross_encoder.score(query, texts), alone, atol=1e-2)


def test_a_missing_weight_is_named() -> None:
    weights = tiny_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(InvalidInput, match=r"no weight 'encoder\.layer\.1\.output\.dense\.bias'"):
        write_bert(weights, CONFIG, "mean", "fp32")


def test_a_classifier_of_several_classes_is_no_ranker() -> None:
    weights = tiny_weights()
    weights["classifier.weight"] = np.zeros((3, HIDDEN), np.float32)
    with pytest.raises(InvalidInput, match="3 outputs; a cross-encoder for ranking has 1"):
        write_bert(weights, CONFIG, "score", "fp32")


def marked(types: int) -> dict[str, NDArray[np.float32]]:
    """Weights with a match table that moves what it marks."""
    table = np.random.default_rng(3).standard_normal((2, HIDDEN)).astype(np.float32)
    return tiny_weights(types=types) | {"embeddings.match_embeddings.weight": table}


def test_tokens_of_both_texts_are_marked() -> None:
    graph = write_bert(marked(types=2), CONFIG, "score", "fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    # A match is what stands in the other text, not what comes twice in the same one.
    pairs = [[2, 5, 6, 3, 6, 7], [2, 5, 5, 3, 6, 7]]
    types = [0, 0, 0, 0, 1, 1]
    expected = []
    for ids, found in zip(pairs, ([0, 0, 1, 0, 1, 0], [0] * 6), strict=True):
        weights = marked(types=2)
        # The table's rows, given with the types instead: one row for each type and mark.
        rows = weights.pop("embeddings.match_embeddings.weight")
        named = weights["embeddings.token_type_embeddings.weight"]
        both = np.concatenate([named + rows[0], named + rows[1]])
        weights["embeddings.token_type_embeddings.weight"] = both
        token = reference(weights, ids, [t + 2 * m for t, m in zip(types, found, strict=True)])[0]
        pooled = np.tanh(token @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
        expected.append(pooled @ weights["classifier.weight"].T + weights["classifier.bias"])
    feed = {
        "input_ids": np.array(pairs),
        "token_type_ids": np.array([types, types]),
        "attention_mask": np.ones((2, 6), np.int64),
    }
    np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=1e-5)


def test_marks_need_two_types() -> None:
    with pytest.raises(InvalidInput, match="needs two token types"):
        write_bert(marked(types=1), CONFIG, "score", "fp32")
