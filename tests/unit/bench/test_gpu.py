"""The GPU benchmark: what of it is arithmetic, and that it ends plainly without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import gpu
from bench.gpu import Effort
from bench.gpu_contenders import Contender, bert_weights, contenders
from bench.shape import MINILM_L12
from neuralrank.backends.tensorrt.driver import Driver, open_driver
from neuralrank.backends.tensorrt.library import Library
from neuralrank.errors import Unsupported
from neuralrank.models.bert import write_bert
from tests.conftest import CHECKOUT
from tests.unit.backends.fake_gpu import FakeLibcuda, FakeTensorRt
from tests.unit.backends.rounding import run as run_onnx
from tests.unit.backends.test_graph import feeds
from tests.unit.conftest import CONFIG, tiny_bundle, tiny_weights

QUICK = Effort(warm=1, rounds=5, threads=2, seconds=0.05)
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def test_the_bound_is_that_of_the_model() -> None:
    # 534 GFLOP for 100 × 128, which 790 TFLOP/s do in 0.68 ms.
    assert gpu.bound(MINILM_L12, 128) == pytest.approx(533.8e9 / 790e12, rel=0.001)


def test_every_token_of_the_inputs_is_real() -> None:
    given = gpu.full_feeds(INPUTS, 100, 64, 1_000)
    assert {array.shape for array in given.values()} == {(100, 64)}
    assert given["attention_mask"].min() == 1
    assert 5 <= given["input_ids"].min() <= given["input_ids"].max() < 1_000


def test_a_contender_is_measured_alone_and_under_load() -> None:
    calls: list[tuple[int, ...]] = []

    def run(given):
        calls.append(given["input_ids"].shape)
        return np.zeros((len(given["input_ids"]), 1))

    rows = gpu.measure(Contender("x", INPUTS, run), MINILM_L12, 100, QUICK)
    assert [row["tokens"] for row in rows] == [32, 64, 128]
    assert set(calls) == {(100, 32), (100, 64), (100, 128)}
    for row in rows:
        assert 0 < row["single"]["p50_ms"] <= row["single"]["p95_ms"] <= row["single"]["p99_ms"]
        assert row["pairs_per_second"] > 0
        assert row["bound_ms"] == pytest.approx(0.68 * row["tokens"] / 128, rel=0.15)


def test_a_caller_that_fails_under_load_is_not_hidden() -> None:
    def run(_):
        raise OSError("the GPU is gone")

    with pytest.raises(RuntimeError, match="2 of 2 callers failed: the GPU is gone"):
        gpu.under_load(run, {}, QUICK)


def row(what: str, p50: float, share: float = 0.5, **facts) -> dict:
    return {"what": what, "tokens": 128, "single": {"p50_ms": p50}, "share_saturated": share,
            **facts}  # fmt: skip


def test_ratios_are_to_what_was_there() -> None:
    rows = gpu.with_ratios([row("TensorRT fp16", 1.0, agrees=True), row("torch eager", 4.0)])
    assert rows[0]["times_faster_than"] == {"torch eager": 4.0}
    assert rows[1]["times_faster_than"] == {}


def test_goals_are_reached_only_by_what_agrees_and_are_unknown_where_not_measured() -> None:
    rows = [row("TensorRT fp8", 0.8, agrees=False), row("TensorRT fp16", 1.9, 0.41, agrees=True)]
    eager = row("torch eager", 5.0)
    assert gpu.goals(gpu.with_ratios([*rows, eager])) == {
        "by": "TensorRT fp16",
        "p50_under_2_ms": True,
        "share_above_0.4": True,
        "3_times_torch_eager": False,
    }
    # The share is that of the row that is named.
    busy = row("TensorRT fp32", 4.0, 0.6, agrees=True)
    idle = row("TensorRT fp16", 1.9, 0.3, agrees=True)
    assert gpu.goals(gpu.with_ratios([busy, idle]))["share_above_0.4"] is False
    assert gpu.goals(gpu.with_ratios(rows))["3_times_torch_eager"] is None
    assert gpu.goals([])["p50_under_2_ms"] is None
    assert (
        gpu.goals(gpu.with_ratios([row("tensorrt_rtx fp16", 1.0, agrees=True)]))["p50_under_2_ms"]
        is None
    )


def test_tensorrt_is_measured_in_each_precision_by_the_code_that_serves(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", "cross_encoder")
    libcuda = FakeLibcuda()
    exact = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    given = feeds(exact)
    for name in ("tensorrt", "tensorrt_rtx"):
        library = Library(FakeTensorRt(libcuda), name, "10.6.0")
        made = contenders(bundle, exact, [given], library, Driver(libcuda))
        product = "TensorRT" if name == "tensorrt" else "tensorrt_rtx"
        assert list(made) == [
            *(f"{product} {p}" for p in ("fp16", "fp16, softmax too", "bf16", "fp8", "fp32")),
            *("ONNX Runtime CUDA", "torch eager", "torch.compile"),
        ]
        contender = made[f"{product} fp16"]()
        assert np.abs(contender.run(given) - run_onnx(exact, given)).max() < 0.01
        contender.close()
    assert libcuda.memory == {}


def test_the_whole_run_writes_what_was_measured_and_names_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle(tmp_path / "b", "cross_encoder", "int8")
    libcuda = FakeLibcuda()
    library = Library(FakeTensorRt(libcuda), "tensorrt", "10.6.0")
    monkeypatch.setattr(gpu, "needed", lambda *_: (Driver(libcuda), library, bundle))
    monkeypatch.setattr(gpu, "LENGTHS", (32, 64))
    monkeypatch.setattr(gpu, "PAIRS", 4)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "gpu.json")
    assert gpu.main(["--rounds", "2", "--seconds", "0.02", "--threads", "1"]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["gpu"] == {"name": "Fake GPU", "capability": [9, 0], "driver": 12_060}
    assert result["versions"] == {"tensorrt": "10.6.0"}
    measured = {row["what"]: row for row in result["rows"]}
    assert len(measured) == 5
    assert {row["tokens"] for row in result["rows"]} == {32, 64}
    assert measured["TensorRT fp32"]["agreement"]["kendall"] == 1.0
    assert measured["TensorRT fp16"]["agrees"]
    assert {"ONNX Runtime CUDA", "torch eager", "torch.compile"} == set(result["left_out"])
    # Nothing of 128 tokens was measured.
    assert result["goals"]["p50_under_2_ms"] is None


def test_where_tensorrt_was_not_measured_the_file_stays_and_it_ends_with_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Contender:
        raise RuntimeError("CUDA out of memory")

    def torch() -> Contender:
        return Contender("torch eager", INPUTS, lambda feeds: run_onnx(exact, feeds))

    bundle = tiny_bundle(tmp_path / "b", "cross_encoder")
    exact = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    libcuda = FakeLibcuda()
    library = Library(FakeTensorRt(libcuda), "tensorrt", "10.6.0")
    made = {"TensorRT fp16": fail, "torch eager": torch}
    monkeypatch.setattr(gpu, "needed", lambda *_: (Driver(libcuda), library, bundle))
    monkeypatch.setattr(gpu, "contenders", lambda *_: made)
    monkeypatch.setattr(gpu, "LENGTHS", (32,))
    monkeypatch.setattr(gpu, "PAIRS", 4)
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "gpu.json")
    (tmp_path / "gpu.json").write_text("an hour of measurements")
    assert gpu.main(["--rounds", "2", "--seconds", "0.02", "--threads", "1"]) == 7
    assert (tmp_path / "gpu.json").read_text() == "an hour of measurements"
    assert "TensorRT fp16: RuntimeError: CUDA out of memory" in capsys.readouterr().err


def test_what_is_not_installed_says_so(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", "cross_encoder")
    libcuda = FakeLibcuda()
    exact = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    made = contenders(
        bundle, exact, [], Library(FakeTensorRt(libcuda), "tensorrt", "10.6.0"), Driver(libcuda)
    )
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(Unsupported, match="onnxruntime-gpu"):
        made["ONNX Runtime CUDA"]()


def test_weights_are_found_by_the_node_that_uses_them() -> None:
    weights = tiny_weights()
    found = bert_weights(write_bert(weights, CONFIG, "score", "fp32"))
    key = "encoder.layer.1.intermediate.dense"
    np.testing.assert_array_equal(found["layer1.inner.product"], weights[f"{key}.weight"].T)
    np.testing.assert_array_equal(found["layer1.inner.bias"], weights[f"{key}.bias"])
    np.testing.assert_array_equal(found["words"], weights["embeddings.word_embeddings.weight"])
    assert found["embeddings.weight"].shape == found["embeddings.bias"].shape
    assert {"logits.product", "logits.bias", "positions", "types"} <= set(found)


def test_torch_computes_the_same_model() -> None:
    torch = pytest.importorskip("torch", reason="torch is not part of what serves or tests")
    from bench.gpu_contenders import torch_bert

    exact = write_bert(tiny_weights(), CONFIG, "score", "fp32")
    given = feeds(exact)
    score = torch_bert(torch, exact, "cpu", torch.float32)
    ours = score(*(torch.from_numpy(given[i.name]) for i in exact.graph.input)).numpy()
    np.testing.assert_allclose(ours, run_onnx(exact, given), atol=1e-4)


def test_without_a_gpu_it_ends_with_7_names_what_is_missing_and_writes_nothing(
    tmp_path: Path,
) -> None:
    try:
        open_driver()
    except Unsupported:
        before = gpu.RESULT.exists() and gpu.RESULT.read_bytes()
        done = subprocess.run(
            [sys.executable, "bench/gpu.py", "--registry", str(tmp_path)],
            cwd=CHECKOUT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        assert "No NVIDIA driver" in done.stderr
        assert "TensorRT can't be loaded" in done.stderr
        assert "ms-marco-minilm-l12" in done.stderr
        assert (gpu.RESULT.exists() and gpu.RESULT.read_bytes()) == before
    else:
        pytest.skip("this machine has an NVIDIA GPU")
