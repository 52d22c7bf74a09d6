"""Running engines: buckets, buffers, streams and graphs, on a fake GPU that computes for real."""

import gc
import threading

import numpy as np
import pytest

from neuralrank.backends.tensorrt import session as session_module
from neuralrank.backends.tensorrt.builder import build_engine
from neuralrank.backends.tensorrt.driver import Driver
from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.profiles import lengths_up_to, profiles_for
from neuralrank.backends.tensorrt.session import Session
from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.models.bert import write_bert
from tests.unit.backends.fake_gpu import FakeLibcuda, FakeTensorRt
from tests.unit.backends.rounding import run
from tests.unit.backends.test_graph import feeds
from tests.unit.backends.test_precision import perceptron
from tests.unit.conftest import CONFIG, tiny_weights

MODEL = write_bert(tiny_weights(), CONFIG, "score", "fp32")
PROFILES = profiles_for(lengths_up_to(64), max_batch=16)


class Gpu:
    def __init__(self, model=MODEL, profiles=PROFILES) -> None:
        self.cuda = FakeLibcuda()
        self.trt = FakeTensorRt(self.cuda)
        self.library = Library(self.trt, "tensorrt", "10.6.0")
        self.engine = build_engine(self.library, model, profiles).engine
        self.session = Session(self.library, Driver(self.cuda), self.engine, profiles)


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.mark.parametrize(("rows", "length"), [(1, 5), (3, 16), (16, 64), (7, 17), (41, 33)])
def test_padding_to_the_bucket_changes_no_number(gpu: Gpu, rows: int, length: int) -> None:
    given = feeds(MODEL, rows=rows, length=length)
    result = gpu.session.run(given)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, run(MODEL, given), atol=1e-5)


def test_a_bucket_is_captured_once_and_then_replayed(gpu: Gpu) -> None:
    for seed in range(6):
        given = feeds(MODEL, seed, rows=5, length=20)
        np.testing.assert_allclose(gpu.session.run(given), run(MODEL, given), atol=1e-5)
    # One of each slot, however often it runs.
    assert gpu.trt.contexts == 2
    assert gpu.cuda.calls.count("cuGraphInstantiateWithFlags") == 2
    assert gpu.cuda.launches == 6
    gpu.session.run(feeds(MODEL, rows=5, length=40))
    assert gpu.trt.contexts == 3


def test_an_engine_without_graphs_still_runs(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    gpu.cuda.failing["cuStreamBeginCapture_v2"] = 719
    given = feeds(MODEL, rows=5, length=20)
    np.testing.assert_allclose(gpu.session.run(given), run(MODEL, given), atol=1e-5)
    assert gpu.cuda.launches == 0
    assert "runs without one" in caplog.text


def test_many_threads_get_each_their_own(gpu: Gpu) -> None:
    wrong: list[str] = []

    def work(seed: int) -> None:
        for step in range(5):
            given = feeds(MODEL, seed * 10 + step, rows=1 + seed, length=8 + 9 * seed)
            if not np.allclose(gpu.session.run(given), run(MODEL, given), atol=1e-5):
                wrong.append(f"{seed} {step}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_graphs_are_bounded(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_PROGRAMS", 2)
    for length in (10, 20, 40, 60, 10, 20, 40, 60):
        for rows in (1, 8):
            given = feeds(MODEL, rows=rows, length=length)
            np.testing.assert_allclose(gpu.session.run(given), run(MODEL, given), atol=1e-5)
    assert len(gpu.cuda.graphs) <= 4


def test_everything_is_given_back(gpu: Gpu) -> None:
    gpu.session.run(feeds(MODEL, rows=5, length=20))
    assert gpu.cuda.memory
    gpu.session.close()
    assert (gpu.cuda.memory, gpu.cuda.streams, gpu.cuda.events, gpu.cuda.graphs) == ({}, {}, {}, {})
    gpu.session.close()


def test_a_session_that_nobody_holds_gives_its_memory_back() -> None:
    gpu = Gpu()
    gpu.session.run(feeds(MODEL, rows=2, length=20))
    del gpu.session
    gc.collect()
    assert gpu.cuda.memory == {}


def test_too_little_memory_is_said_and_what_was_taken_is_given_back() -> None:
    gpu = Gpu()
    gpu.session.close()
    gpu.cuda.failing["cuEventCreate"] = 2
    with pytest.raises(Unsupported, match="OUT_OF_MEMORY"):
        Session(gpu.library, Driver(gpu.cuda), gpu.engine, PROFILES)
    gc.collect()
    assert gpu.cuda.memory == {}


def test_an_engine_that_can_not_be_read_is_said(gpu: Gpu) -> None:
    with pytest.raises(Unsupported, match=r"tensorrt 10\.6\.0 can't load the engine"):
        Session(gpu.library, Driver(gpu.cuda), b"rubbish", PROFILES)


def test_what_fails_on_the_gpu_is_raised(gpu: Gpu) -> None:
    gpu.trt.failing = True
    with pytest.raises(Unsupported, match="could not enqueue"):
        gpu.session.run(feeds(MODEL, rows=2, length=20))
    gpu.trt.failing = False
    gpu.cuda.failing["cuStreamSynchronize"] = 719
    with pytest.raises(Unsupported, match="LAUNCH_FAILED"):
        gpu.session.run(feeds(MODEL, rows=2, length=20))


def test_longer_than_the_longest_is_the_callers_mistake(gpu: Gpu) -> None:
    with pytest.raises(InvalidInput, match="65 tokens"):
        gpu.session.run(feeds(MODEL, rows=2, length=65))
    with pytest.raises(InvalidInput, match="No rows"):
        gpu.session.run({name: value[:0] for name, value in feeds(MODEL).items()})


def test_a_model_over_float_features_runs() -> None:
    model = perceptron()
    gpu = Gpu(model, profiles_for((), max_batch=64))
    x = np.random.default_rng(4).normal(0, 1, (50, 8)).astype(np.float32)
    np.testing.assert_allclose(gpu.session.run({"x": x}), run(model, {"x": x}), atol=1e-5)


def test_missing_rows_are_real_ones_and_what_is_behind_a_row_is_zero() -> None:
    target = np.full((4, 5), 9)
    session_module._fill(target, np.array([[1, 2, 3], [4, 5, 6]]))
    assert target.tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0], [1, 2, 3, 0, 0], [1, 2, 3, 0, 0]]
