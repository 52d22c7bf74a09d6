"""Networks, profiles and builds by a real library: TensorRT-RTX, which builds without a GPU.

What it builds is an RTX engine and never called a TensorRT one; the calls are the same.
"""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from neuralrank.backends.tensorrt.builder import build_engine
from neuralrank.backends.tensorrt.fp8 import to_fp8
from neuralrank.backends.tensorrt.library import MODULES, Library, load_library
from neuralrank.backends.tensorrt.precision import to_half
from neuralrank.backends.tensorrt.profiles import Profile, lengths_up_to, profiles_for
from neuralrank.errors import InvalidBundle, InvalidInput, Unsupported
from neuralrank.models.bert import write_bert
from tests.unit.backends.test_graph import feeds
from tests.unit.backends.test_precision import perceptron
from tests.unit.conftest import CONFIG, tiny_weights

RTX = "tensorrt_rtx_bindings"
ADA = "SM89"
PROFILES = profiles_for(lengths_up_to(64))


@pytest.fixture(scope="module")
def rtx() -> Library:
    pytest.importorskip(RTX, reason="TensorRT-RTX has wheels for Linux on x86-64 only")
    return load_library((RTX,))


def test_an_rtx_build_is_never_called_tensorrt(rtx: Library) -> None:
    assert rtx.name == "tensorrt_rtx"
    assert rtx.version == rtx.module.__version__


def test_a_library_that_is_not_there_is_named_with_what_to_do() -> None:
    with pytest.raises(Unsupported, match=r"no_such_tensorrt.*docs/gpu\.md"):
        load_library(("no_such_tensorrt",))
    assert RTX not in MODULES


def test_a_process_has_one_logger(rtx: Library) -> None:
    """TensorRT keeps the first that it is given, and reports all that happens to it."""
    assert load_library((RTX,)).logger is rtx.logger


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "fp8"])
def test_every_precision_parses_and_builds(rtx: Library, precision: str) -> None:
    model = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    if precision == "fp8":
        model = to_fp8(model, [feeds(model)])
    elif precision != "fp32":
        model = to_half(model, precision)
    steps: list[tuple[str, float]] = []
    built = build_engine(
        rtx,
        model,
        PROFILES,
        compute_capability=ADA,
        progress=lambda phase, share: steps.append((phase, share)),
    )
    assert len(built.engine) > 100_000
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 2


def test_a_model_over_float_features_builds(rtx: Library) -> None:
    built = build_engine(rtx, to_half(perceptron(), "fp16"), profiles_for(()),
                         compute_capability=ADA)  # fmt: skip
    assert built.engine


def test_the_timings_of_one_build_are_taken_by_the_next_and_rubbish_is_not(rtx: Library) -> None:
    model = perceptron()
    first = build_engine(rtx, model, profiles_for(()), compute_capability=ADA)
    again = build_engine(
        rtx, model, profiles_for(()), compute_capability=ADA, timings=first.timings
    )
    assert again.engine
    assert build_engine(
        rtx, model, profiles_for(()), compute_capability=ADA, timings=b"rubbish"
    ).engine


def test_an_operation_that_it_does_not_know_is_named(rtx: Library) -> None:
    int8 = write_bert(tiny_weights(), CONFIG, "mean", "int8")
    with pytest.raises(InvalidBundle, match=r"tensorrt_rtx .*embeddings\.zeros.*UINT8"):
        build_engine(rtx, int8, PROFILES, compute_capability=ADA)


def strange() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("NoSuchOp", ["x"], ["y"], "strange", domain="com.example")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_an_operation_of_another_domain_is_named(rtx: Library) -> None:
    model = strange()
    with pytest.raises(InvalidBundle, match=r"strange \(NoSuchOp\): "):
        build_engine(rtx, model, profiles_for(()), compute_capability=ADA)


def test_a_batch_of_fixed_size_is_refused(rtx: Library) -> None:
    model = perceptron()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(InvalidInput, match="first axis must be the batch"):
        build_engine(rtx, model, profiles_for(()), compute_capability=ADA)


def test_the_library_refuses_a_profile_whose_least_is_above_its_best(
    rtx: Library, caplog: pytest.LogCaptureFixture
) -> None:
    class Reversed(Profile):
        """A profile that says its shapes the wrong way round, past our own check."""

        def shape(self, of, batch):
            return super().shape(of, {self.least: self.most, self.most: self.least}.get(batch, 8))

    with caplog.at_level(logging.ERROR), pytest.raises((InvalidInput, ValueError, RuntimeError)):
        build_engine(rtx, perceptron(), [Reversed(0, 1, 8, 16)], compute_capability=ADA)


def test_an_engine_for_a_gpu_that_rtx_does_not_know_is_not_built(rtx: Library) -> None:
    with pytest.raises(AttributeError):
        build_engine(rtx, perceptron(), profiles_for(()), compute_capability="SM90")


def test_a_graph_that_can_not_be_built_is_said(rtx: Library) -> None:
    with pytest.raises(Unsupported, match="could not build an engine"):
        build_engine(rtx, onnx.ModelProto(), profiles_for(()), compute_capability=ADA)


def test_its_errors_are_in_our_log(rtx: Library, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(InvalidBundle):
        build_engine(rtx, strange(), profiles_for(()), compute_capability=ADA)
    assert "tensorrt_rtx: " in caplog.text


def test_feeds_have_no_rows_without_tokens() -> None:
    model = write_bert(tiny_weights(), CONFIG, "mean", "fp32")
    assert (feeds(model)["attention_mask"].sum(1) >= 4).all()
    assert np.issubdtype(feeds(model)["input_ids"].dtype, np.int64)
