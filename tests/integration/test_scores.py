"""With the default models: a score is its own pair's alone, whoever shares the batch."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.inference.inference import Inference
from sidecar.telemetry.metrics import Metrics
from tests.conftest import default_models

# Logits span about 10. Where this was measured nothing moved at all; another processor may add up
# in another order.
LOGIT_TOLERANCE = 1e-3
COSINE_TOLERANCE = 1e-5
QUERIES = ("kindle paperwhite case", "电脑", "red shoes 10.5 men", "")
TEXTS = [
    "Amazon Kindle Paperwhite case, black",
    "Apple MacBook 笔记本电脑 13 英寸",
    "shoes",
    "",
    ".",
    "Over-ear wireless headphones with active noise cancelling and 30 hours of battery. " * 3,
    "全自动洗衣机 家用 10公斤 变频 " * 4,
    "a [SEP] kindle paperwhite case [SEP]",
    "x" * 300,
    "word " * 90,
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return default_models()


@pytest.fixture(scope="module")
def cross_encoder(registry: Registry) -> CrossEncoder:
    return CrossEncoder.load(registry.get("neuralrank-small"))


@pytest.fixture(scope="module")
def encoder(registry: Registry) -> Encoder:
    return Encoder.load(registry.get("multilingual-e5-small"))


@pytest.fixture(scope="module")
def inference() -> Iterator[Inference]:
    made = Inference(
        Metrics(),
        workers=2,
        batch_tokens=512,
        queue_tokens=1_000_000,
        query_cache_bytes=0,
        token_cache_bytes=0,
        score_cache_bytes=0,
    )
    yield made
    made.close()


_ALONE: dict[tuple[str, str], float] = {}


def alone(model: CrossEncoder, query: str, text: str) -> float:
    if (query, text) not in _ALONE:
        _ALONE[query, text] = float(model.score(query, [text])[0])
    return _ALONE[query, text]


REQUEST = st.tuples(
    st.sampled_from(QUERIES), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6)
)


@settings(max_examples=12)
@given(requests=st.lists(REQUEST, min_size=1, max_size=4))
def test_a_score_depends_on_its_own_pair_alone(
    cross_encoder: CrossEncoder, inference: Inference, requests: list[tuple[str, list[str]]]
) -> None:
    """Whatever other requests there are, in whatever order the candidates come."""

    async def ask(query: str, texts: list[str]) -> Floats:
        deadline = Deadline.after(300.0)
        pairs = await inference.pairs(cross_encoder, query, texts, deadline)
        scores, errors = await inference.score(cross_encoder, Cost(), query, texts, pairs, deadline)
        assert not errors
        return scores

    async def run() -> list[Floats]:
        return await asyncio.gather(*(ask(query, texts) for query, texts in requests))

    for (query, texts), scores in zip(requests, asyncio.run(run()), strict=True):
        expected = [alone(cross_encoder, query, text) for text in texts]
        assert scores == pytest.approx(expected, abs=LOGIT_TOLERANCE)


@settings(max_examples=12)
@given(texts=st.lists(st.sampled_from(TEXTS), min_size=2, max_size=8, unique=True))
def test_a_vector_depends_on_its_own_text_alone(encoder: Encoder, texts: list[str]) -> None:
    tokens = encoder.tokenise_passages(texts)
    together = encoder.run(tokens)
    for row, own in zip(together, tokens, strict=True):
        assert float(row @ encoder.run([own])[0]) >= 1 - COSINE_TOLERANCE
    assert np.isfinite(together).all()
