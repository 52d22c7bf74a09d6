"""From bundle to GPU: tried in a child, cached, refused with numbers, never without an answer."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuralrank.backends.choice import Choice
from neuralrank.backends.fallback import Guarded
from neuralrank.backends.loading import load_backend
from neuralrank.backends.tensorrt import driver as driver_module
from neuralrank.backends.tensorrt import library as library_module
from neuralrank.backends.tensorrt import load as load_module
from neuralrank.backends.tensorrt.cache import EngineCache
from neuralrank.backends.tensorrt.driver import Driver
from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.load import build_in_child, load_tensorrt
from neuralrank.backends.tensorrt.trial import engine_key, try_engine
from neuralrank.bundles.bundle import Bundle
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import InvalidBundle, Unsupported
from tests.conftest import CHECKOUT
from tests.unit.backends.fake_gpu import FakeLibcuda, FakeTensorRt
from tests.unit.conftest import tiny_bundle

TEXTS = ["apple macbook 13", "dell xps", "华为手机", "a" * 50, "电脑"]


class Machine:
    """A machine with a GPU. Engines are built in this process: a child would have none."""

    def __init__(self, folder: Path, capability: tuple[int, int] = (9, 0)) -> None:
        self.libcuda = FakeLibcuda(capability=capability)
        self.trt = FakeTensorRt(self.libcuda)
        self.library = Library(self.trt, "tensorrt", "10.6.0")
        self.reasons: list[str] = []
        self.folder = folder

    def choice(self, **fields) -> Choice:
        given = {"backend": "tensorrt", "precision": "fp16", "engines": self.folder, **fields}
        return Choice(**given, on_fallback=self.reasons.append)

    def build(self, bundle: Bundle, precision: str, choice: Choice) -> None:
        cache = EngineCache(choice.engines, choice.engine_bytes)
        driver = Driver(self.libcuda)
        try_engine(bundle, precision, self.library, driver, cache, lambda *_: None)

    def load(self, bundle: Bundle, **fields):
        return load_tensorrt(
            bundle, self.choice(**fields), Driver(self.libcuda), self.library, self.build
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "engines")
    monkeypatch.setattr(driver_module, "open_driver", lambda: Driver(made.libcuda))
    monkeypatch.setattr(library_module, "load_library", lambda: made.library)
    monkeypatch.setattr(load_module, "build_in_child", made.build)
    return made


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_both_kinds_of_bundles_run_on_it_in_fp16(
    machine: Machine, tmp_path: Path, precision: str
) -> None:
    for kind, loader in (("encoder", Encoder), ("cross_encoder", CrossEncoder)):
        bundle = tiny_bundle(tmp_path / kind, kind, precision)
        on_gpu = loader.load(bundle, 1, machine.choice())
        on_cpu = loader.load(bundle, 1)
        assert on_gpu.backend_name == "tensorrt-10.6.0-fp16"
        if kind == "encoder":
            ours, exact = (m.encode_passages(TEXTS) for m in (on_gpu, on_cpu))
        else:
            ours, exact = (m.score("apple", TEXTS) for m in (on_gpu, on_cpu))
        spread = exact.std()
        assert np.abs(ours - exact).max() < (0.3 if precision == "int8" else 0.02) * spread
    assert machine.libcuda.launches > 0
    assert machine.reasons == []


def test_the_second_start_builds_nothing(machine: Machine, encoder_bundle: Bundle) -> None:
    machine.load(encoder_bundle)
    assert machine.trt.builds == 1
    machine.load(encoder_bundle)
    assert machine.trt.builds == 1
    # Another precision is another engine.
    assert machine.load(encoder_bundle, precision="fp32").name == "tensorrt-10.6.0-fp32"
    assert machine.trt.builds == 2


def test_a_damaged_engine_is_built_anew(
    machine: Machine, encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.load(encoder_bundle)
    (file,) = machine.folder.glob("*.engine")
    file.write_bytes(file.read_bytes()[:-10])
    machine.load(encoder_bundle)
    assert machine.trt.builds == 2
    assert "a cached engine is damaged" in caplog.text


def test_an_engine_that_can_not_be_loaded_is_built_anew_once(
    machine: Machine, encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(machine.folder, 2**20)
    key = engine_key(encoder_bundle, "fp16", machine.library, Driver(machine.libcuda))
    cache.put(key, b"rubbish", {"accepted": True})
    assert machine.load(encoder_bundle).name == "tensorrt-10.6.0-fp16"
    assert machine.load(encoder_bundle).name == "tensorrt-10.6.0-fp16"
    assert machine.trt.builds == 1
    assert "a cached engine can't be loaded" in caplog.text

    def useless(*_: object) -> None:
        cache.put(key, b"rubbish", {"accepted": True})

    cache.put(key, b"rubbish", {"accepted": True})
    with pytest.raises(Unsupported, match="can't load the engine"):
        load_tensorrt(
            encoder_bundle, machine.choice(), Driver(machine.libcuda), machine.library, useless
        )


def test_an_engine_is_of_one_gpu(machine: Machine, encoder_bundle: Bundle) -> None:
    """Those of one compute capability do not all run each other's."""
    key = engine_key(encoder_bundle, "fp16", machine.library, Driver(machine.libcuda))
    assert key.device == "Fake GPU"


def test_too_little_memory_at_the_start_is_a_failure_and_keeps_the_engine(
    machine: Machine, encoder_bundle: Bundle
) -> None:
    machine.load(encoder_bundle)
    machine.libcuda.failing["cuMemAlloc_v2"] = 2
    found = load_backend(encoder_bundle, 1, machine.choice())
    assert (found.name, machine.reasons) == ("onnxruntime-cpu", ["failed"])
    machine.libcuda.failing.clear()
    assert load_backend(encoder_bundle, 1, machine.choice()).name == "tensorrt-10.6.0-fp16"
    assert machine.trt.builds == 1


def test_a_model_too_large_for_one_message_is_said_and_served_by_the_cpu(
    machine: Machine, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("neuralrank.onnx_file._ONE_FILE_BYTES", 1_000)
    found = load_backend(encoder_bundle, 1, machine.choice())
    assert (found.name, machine.reasons) == ("onnxruntime-cpu", ["refused"])
    assert "is larger than 2 GiB" in str([vars(r) for r in caplog.records])
    assert machine.trt.builds == 0


def test_what_does_not_agree_is_refused_with_the_numbers_and_not_built_again(
    machine: Machine, cross_encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.trt.error = 5.0
    for _ in range(2):
        with pytest.raises(
            InvalidBundle, match=r"fp16: Kendall .*bf16: Kendall .*fp32: Kendall 1\.0000"
        ):
            machine.load(cross_encoder_bundle)
    assert "does not agree with float32 and is refused" in caplog.text
    # Once each: the refusals are kept as well.
    assert machine.trt.builds == 3


@pytest.mark.parametrize(
    ("off", "length"),
    [
        (lambda _, length: length == 16, 16),
        (lambda _, length: length == 64, 64),
        (lambda rows, length: rows == 1 and length == 32, 32),
        (lambda rows, length: rows > 1 and length == 64, 64),
    ],
    ids=["the shortest", "the longest", "one row", "many rows"],
)
@pytest.mark.parametrize("kind", ["encoder", "cross_encoder"])
def test_numbers_that_are_off_in_one_profile_are_refused(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str,
    off: Callable[[int, int], bool], length: int,
) -> None:  # fmt: skip
    bundle = tiny_bundle(tmp_path / "bundle", kind)
    machine.trt.off = off
    found = load_backend(bundle, 1, machine.choice(precision="fp32"))
    assert (found.name, machine.reasons) == ("onnxruntime-cpu", ["refused"])
    assert f"in the profile of {length} tokens" in str([vars(r) for r in caplog.records])


def test_a_safer_precision_serves_where_one_is_refused(
    tmp_path: Path, encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    old = Machine(tmp_path / "engines", capability=(8, 0))
    assert old.load(encoder_bundle, precision="fp8").name == "tensorrt-10.6.0-fp16"
    assert any("FP8 needs 8.9" in str(vars(record)) for record in caplog.records)


def test_fp8_runs_where_the_gpu_has_it_and_agrees(
    machine: Machine, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuralrank.backends.tensorrt import trial
    from neuralrank.backends.tensorrt.agreement import Tolerance

    monkeypatch.setattr(trial, "TOLERANCE", Tolerance(kendall=0.5, top=0.1, difference=2.0))
    assert machine.load(encoder_bundle, precision="fp8").name == "tensorrt-10.6.0-fp8"


def test_without_a_driver_auto_is_quiet_and_tensorrt_is_loud(
    encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Driver:
        return driver_module.Driver(FakeLibcuda(init=100))

    monkeypatch.setattr(driver_module, "open_driver", missing)
    reasons: list[str] = []
    with caplog.at_level(logging.WARNING):
        found = load_backend(encoder_bundle, 1, Choice("auto", on_fallback=reasons.append))
    assert (found.name, reasons, caplog.text) == ("onnxruntime-cpu", [], "")
    found = load_backend(encoder_bundle, 1, Choice("tensorrt", on_fallback=reasons.append))
    assert (found.name, reasons) == ("onnxruntime-cpu", ["unavailable"])
    assert "NO GPU FOR THIS MODEL" in caplog.text
    assert any("cuInit failed" in str(vars(record)) for record in caplog.records)


def test_a_gpu_without_tensorrt_is_loud(
    machine: Machine, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Library:
        raise Unsupported("TensorRT can't be loaded")

    monkeypatch.setattr(library_module, "load_library", missing)
    found = load_backend(encoder_bundle, 1, machine.choice(backend="auto"))
    assert (found.name, machine.reasons) == ("onnxruntime-cpu", ["unavailable"])


def test_a_refused_model_is_served_by_the_cpu(
    machine: Machine, cross_encoder_bundle: Bundle
) -> None:
    machine.trt.error = 5.0
    found = load_backend(cross_encoder_bundle, 1, machine.choice())
    assert (found.name, machine.reasons) == ("onnxruntime-cpu", ["refused"])


def test_a_gpu_that_fails_while_running_answers_by_the_cpu_from_then_on(
    machine: Machine, encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder.load(encoder_bundle, 1, machine.choice())
    exact = Encoder.load(encoder_bundle, 1).encode_queries(TEXTS)
    machine.libcuda.failing["cuStreamSynchronize"] = 719
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), exact, atol=1e-6)
    assert "THE GPU FAILED" in caplog.text
    assert machine.reasons == ["failed"]
    assert encoder.backend_name == "onnxruntime-cpu (the GPU failed)"
    launches = machine.libcuda.launches
    machine.libcuda.failing.clear()
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), exact, atol=1e-6)
    assert machine.libcuda.launches == launches
    assert machine.reasons == ["failed"]


@pytest.mark.parametrize("kind", ["encoder", "cross_encoder"])
def test_a_gpu_that_fails_the_golden_check_leaves_the_model_to_the_cpu(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    loader, texts = (Encoder, ["apple"]) if kind == "encoder" else (CrossEncoder, ["apple", "dell"])

    def values(bundle: Bundle) -> list[float]:
        model = loader.load(bundle, 1)
        if isinstance(model, Encoder):
            return model.encode_passages(texts)[0, :4].tolist()
        return model.score(texts[0], texts[1:]).tolist()

    right = values(tiny_bundle(tmp_path / "plain", kind))
    bundle = tiny_bundle(tmp_path / "b", kind, golden=[{"texts": texts, "values": right}])
    machine.load(bundle)
    # What the trial could not see.
    machine.trt.off = lambda rows, _: rows == 1
    model = loader.load(bundle, 1, machine.choice())
    assert model.backend_name == "onnxruntime-cpu (the GPU was refused)"
    assert machine.reasons == ["refused"]
    assert "THE GPU COMPUTES SOMETHING ELSE" in caplog.text
    # Of a bundle that is wrong by itself, it is no excuse.
    other = [{"texts": texts, "values": [value - 1 for value in right]}]
    with pytest.raises(InvalidBundle, match="but was published with"):
        loader.load(tiny_bundle(tmp_path / "bad", kind, golden=other), 1, machine.choice())


@pytest.mark.parametrize("lack", ["context", "call"])
def test_memory_that_is_used_up_for_a_moment_costs_that_moment(
    machine: Machine, encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture, lack: str
) -> None:
    encoder = Encoder.load(encoder_bundle, 1, machine.choice())
    exact = Encoder.load(encoder_bundle, 1).encode_queries(TEXTS)
    if lack == "context":
        machine.trt.full = True
    else:
        machine.libcuda.failing["cuMemcpyHtoDAsync_v2"] = 2
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), exact, atol=1e-6)
    assert set(machine.reasons) == {"out_of_memory"}
    assert "The CPU answers this time" in caplog.text
    machine.trt.full = False
    machine.libcuda.failing.clear()
    counted, launches = len(machine.reasons), machine.libcuda.launches
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), exact, atol=0.01)
    assert machine.libcuda.launches > launches
    assert len(machine.reasons) == counted
    assert encoder.backend_name == "tensorrt-10.6.0-fp16"


def test_numbers_that_are_not_finite_are_computed_anew(
    machine: Machine, encoder_bundle: Bundle
) -> None:
    encoder = Encoder.load(encoder_bundle, 1, machine.choice())
    exact = Encoder.load(encoder_bundle, 1).encode_queries(TEXTS)
    machine.trt.error = float("nan")
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), exact, atol=1e-6)
    machine.trt.error = 0.0
    assert set(machine.reasons) == {"not_finite"}
    encoder.encode_queries(TEXTS)
    assert encoder.backend_name == "tensorrt-10.6.0-fp16"


def test_texts_longer_than_the_engine_takes_are_read_by_the_cpu(
    machine: Machine, encoder_bundle: Bundle
) -> None:
    found = load_backend(encoder_bundle, 1, machine.choice())
    assert isinstance(found, Guarded)
    assert [len(rows) for rows in found.batches([3, 4, 70])] == [3]
    ids = np.ones((2, 70), np.int64)
    # The bundle's table has 64 positions: the CPU's own error is the caller's.
    with pytest.raises(Exception, match=r"(?i)onnxruntime"):
        found.run({"input_ids": ids, "attention_mask": ids})
    assert machine.reasons == ["too_long"]
    assert found.name.startswith("tensorrt")


CHILDREN = {
    "aborts": "import os; os.abort()",
    "hangs": "import time; time.sleep(60)",
    "refuses": "import json, sys; print('words'); print(json.dumps({'phase': 'x', 'done': 0.5}));"
    "print(json.dumps({'error': 'no such operation'})); sys.exit(3)",
    "lacks": "import json, sys; print(json.dumps({'error': 'no GPU'})); sys.exit(7)",
}


@pytest.mark.parametrize(
    ("child", "kind", "message"),
    [
        ("aborts", Unsupported, "ended with signal 6"),
        ("hangs", Unsupported, "ended with signal 9"),
        ("refuses", InvalidBundle, "no such operation"),
        ("lacks", Unsupported, "no GPU"),
    ],
)
def test_a_child_that_fails_hurts_nobody_else(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, child: str, kind: type[Exception], message: str,
) -> None:  # fmt: skip
    (tmp_path / "broken_child.py").write_text(CHILDREN[child])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    choice = Choice("tensorrt", engines=tmp_path / "engines")
    seconds = 0.3 if child == "hangs" else 30.0
    with caplog.at_level(logging.INFO), pytest.raises(kind, match=message):
        build_in_child(encoder_bundle, "fp16", choice, "broken_child", seconds)
    if child == "refuses":
        assert "building: 50 %" in caplog.text
        assert "building: words" in caplog.text


WORKING_CHILD = """
import sys
from neuralrank.backends.tensorrt import trial
from neuralrank.backends.tensorrt.driver import Driver
from neuralrank.backends.tensorrt.library import Library
from tests.conftest import CHECKOUT
from tests.unit.backends.fake_gpu import FakeLibcuda, FakeTensorRt

gpu = FakeLibcuda()
trial.open_driver = lambda: Driver(gpu)
trial.load_library = lambda: Library(FakeTensorRt(gpu), "tensorrt", "10.6.0")
sys.exit(trial.main(sys.argv[1:]))
"""


def test_a_child_leaves_its_engine_in_the_cache_and_its_progress_in_the_log(
    tmp_path: Path, cross_encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "working_child.py").write_text(WORKING_CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{CHECKOUT}")
    machine = Machine(tmp_path / "engines")

    def build(bundle: Bundle, precision: str, choice: Choice) -> None:
        build_in_child(bundle, precision, choice, "working_child", 60.0)

    with caplog.at_level(logging.INFO):
        found = load_tensorrt(
            cross_encoder_bundle,
            machine.choice(),
            Driver(machine.libcuda),
            machine.library,
            build,
        )
    assert found.name == "tensorrt-10.6.0-fp16"
    assert machine.trt.builds == 0, "this process builds nothing"
    phases = [record.phase for record in caplog.records if hasattr(record, "phase")]
    assert list(dict.fromkeys(phases)) == [
        "converting to fp16", "Building", "comparing with float32",
    ]  # fmt: skip
    assert any("Kendall" in getattr(record, "agreement", "") for record in caplog.records)


WAITING_CHILD = """
import sys, time
from neuralrank.backends.tensorrt import trial

def hangs():
    print("in the driver", flush=True)
    time.sleep(300)

trial.open_driver = hangs
sys.exit(trial.main(sys.argv[1:]))
"""
PARENT_THAT_DIES = """
import os, sys
from pathlib import Path
from neuralrank.backends.choice import Choice
from neuralrank.backends.tensorrt import load
from neuralrank.bundles.bundle import Bundle

load._hear = lambda *_: os._exit(0)  # as soon as the child is at work
bundle, engines = map(Path, sys.argv[1:])
load.build_in_child(Bundle.open(bundle), "fp16", Choice(engines=engines), "waiting_child")
"""


def test_a_child_ends_with_who_started_it(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waiting_child.py").write_text(WAITING_CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{CHECKOUT}")
    command = [sys.executable, "-c", PARENT_THAT_DIES, str(encoder_bundle.path), str(tmp_path)]
    # Both have this standard error: it is read to its end when both have ended.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_real_child_says_what_this_machine_lacks(
    tmp_path: Path, encoder_bundle: Bundle
) -> None:
    try:
        driver_module.open_driver()
    except Unsupported:
        choice = Choice("tensorrt", engines=tmp_path / "engines")
        with pytest.raises(Unsupported, match="NVIDIA driver"):
            build_in_child(encoder_bundle, "fp16", choice)
    else:
        pytest.skip("this machine has an NVIDIA GPU")


def test_a_cpu_machine_loads_nothing_of_cuda(encoder_bundle: Bundle) -> None:
    code = (
        "import sys, sidecar.main; from pathlib import Path; "
        "from neuralrank.backends.choice import Choice; "
        "from neuralrank.backends.loading import load_backend; "
        "from neuralrank.bundles.bundle import Bundle; "
        f"bundle = Bundle.open(Path({str(encoder_bundle.path)!r})); "
        "print(load_backend(bundle, 1, Choice('auto')).name); "
        "loaded = {m for m in sys.modules if 'tensorrt_' in m or m.split('.')[0] in "
        "('tensorrt', 'cuda', 'torch')}; "
        "maps = Path('/proc/self/maps'); "
        "text = maps.read_text() if maps.exists() else ''; "
        "loaded |= {n for n in ('libcuda.so', 'libnvinfer', 'libtensorrt') if n in text}; "
        "sys.exit(f'loads {sorted(loaded)}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "tensorrt" in done.stdout:
        pytest.skip("this machine has an NVIDIA GPU")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "onnxruntime-cpu"


def test_the_default_is_onnx_runtime_and_touches_no_driver(
    encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched() -> Driver:
        raise AssertionError("the driver was opened")

    monkeypatch.setattr(driver_module, "open_driver", touched)
    assert load_backend(encoder_bundle, 1).name == "onnxruntime-cpu"
    assert load_backend(encoder_bundle, 1, Choice()).name == "onnxruntime-cpu"
    assert Choice().backend == "onnxruntime"
