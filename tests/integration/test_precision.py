"""The default bundles in half precision, on the CPU: as near to float32 as serving asks."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from neuralrank.backends.tensorrt.agreement import agreement
from neuralrank.backends.tensorrt.builder import build_engine
from neuralrank.backends.tensorrt.fp8 import to_fp8
from neuralrank.backends.tensorrt.graph import read_float_graph
from neuralrank.backends.tensorrt.library import load_library
from neuralrank.backends.tensorrt.precision import to_half
from neuralrank.backends.tensorrt.profiles import lengths_up_to, profiles_for
from neuralrank.bundles.bundle import Bundle
from neuralrank.text.sample_pairs import read_pairs
from neuralrank.text.tokens import load_tokenizer, padded, tokens_of
from tests.conftest import default_models
from tests.unit.backends.rounding import run, run_rounded

# Seconds of a processor each: a module of its own, and one model in memory at a time.
KINDS = ["encoder", "cross_encoder"]


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    registry = default_models()
    names = {"encoder": "multilingual-e5-small", "cross_encoder": "neuralrank-small"}
    return {kind: registry.get(name) for kind, name in names.items()}


@pytest.fixture(scope="module", params=KINDS)
def case(
    request: pytest.FixtureRequest, bundles: dict[str, Bundle]
) -> tuple[Bundle, onnx.ModelProto, dict[str, NDArray[np.int64]], NDArray[np.float32]]:
    """A bundle, its float graph, real texts, and what float32 says of them."""
    bundle = bundles[request.param]
    model = read_float_graph(bundle.model)
    pairs = read_pairs(bundle.manifest.languages)
    tokenizer = load_tokenizer(bundle)
    texts = [pair.item for pair in pairs] + [pair.other_item for pair in pairs]
    if request.param == "cross_encoder":
        inputs = [(pair.query, text) for pair in pairs[:4] for text in texts[::2]]
    else:
        inputs = texts
    encodings = tokenizer.encode_batch_fast(inputs)
    names = frozenset(given.name for given in model.graph.input)
    feeds = padded([tokens_of(encoding) for encoding in encodings], names)
    return bundle, model, feeds, run(model, feeds)


def test_the_restored_graph_is_the_bundle(case) -> None:
    bundle, _, feeds, exact = case
    served = run(onnx.load(str(bundle.model)), feeds)
    tolerance = bundle.manifest.golden_tolerance
    assert np.abs(served - exact).max() <= tolerance
    assert agreement(exact, served).kendall > 0.9


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_agrees(case, precision: str) -> None:
    _, model, feeds, exact = case
    found = agreement(exact, run_rounded(to_half(model, precision), feeds))
    print(f"{precision}: {found}")
    assert 0 < found.difference < 1
    assert found.within() or precision == "bf16", str(found)


def test_fp8_is_measured(case) -> None:
    _, model, feeds, exact = case
    found = agreement(exact, run_rounded(to_fp8(model, [feeds]), feeds))
    print(f"fp8: {found}")
    assert 0.8 < found.kendall < 1


def test_an_rtx_engine_is_built_of_it(case) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="wheels for Linux on x86-64 only")
    bundle, model, _, _ = case
    built = build_engine(
        load_library(("tensorrt_rtx_bindings",)),
        to_half(model, "fp16"),
        profiles_for(lengths_up_to(min(128, bundle.manifest.max_tokens))),
        compute_capability="SM89",
    )
    assert len(built.engine) > 10_000_000
