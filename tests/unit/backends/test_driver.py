"""The CUDA driver through ctypes, and whether there is one."""

import pytest

from neuralrank.backends.tensorrt.driver import Driver, open_driver
from neuralrank.errors import Unsupported
from tests.unit.backends.fake_gpu import PROTOTYPES, FakeLibcuda


def test_a_machine_without_a_driver_says_so() -> None:
    with pytest.raises(Unsupported, match=r"No NVIDIA driver: libno-such-cuda.*docs/gpu\.md"):
        open_driver("libno-such-cuda.so.1")


def test_a_driver_that_can_not_start_is_named_with_cudas_own_error() -> None:
    with pytest.raises(Unsupported, match=r"cuInit failed with CUDA_ERROR_LAUNCH_FAILED \(719\)"):
        Driver(FakeLibcuda(init=719))


def test_a_driver_without_a_gpu_says_so() -> None:
    library = FakeLibcuda(gpus=0)
    with pytest.raises(Unsupported, match="sees no GPU"):
        Driver(library)
    assert library.calls == ["cuInit", "cuDeviceGetCount"]


def test_a_driver_that_is_too_old_says_so() -> None:
    library = FakeLibcuda()
    del library.cuGraphInstantiateWithFlags
    with pytest.raises(Unsupported, match="has no cuGraphInstantiateWithFlags: it is older"):
        Driver(library)


def test_the_device_is_what_the_driver_says() -> None:
    device = Driver(FakeLibcuda(capability=(8, 9))).device
    assert (device.name, device.compute_capability, device.driver) == ("Fake GPU", "8.9", 12_060)


def test_every_function_is_declared_as_cuda_has_it() -> None:
    library = FakeLibcuda()
    Driver(library)
    for name, prototype in PROTOTYPES.items():
        declared = getattr(library, name).argtypes
        assert len(declared) == len(prototype), name


def test_memory_travels_there_and_back() -> None:
    driver = Driver(FakeLibcuda())
    host, device, stream = driver.allocate_pinned(8), driver.allocate(8), driver.create_stream()
    import ctypes

    ctypes.memmove(host, b"12345678", 8)
    driver.copy_in(device, host, 8, stream)
    driver.synchronise(stream)
    ctypes.memset(host, 0, 8)
    driver.copy_out(host, device, 8, stream)
    assert ctypes.string_at(host, 8) == bytes(8), "nothing happens before it is waited for"
    driver.synchronise(stream)
    assert ctypes.string_at(host, 8) == b"12345678"


def test_an_error_is_raised_with_its_name() -> None:
    library = FakeLibcuda()
    driver = Driver(library)
    library.failing["cuMemAlloc_v2"] = 2
    with pytest.raises(Unsupported, match=r"cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY"):
        driver.allocate(1)


def test_a_capture_that_fails_leaves_the_stream_usable_and_raises_the_first_error() -> None:
    library = FakeLibcuda()
    driver = Driver(library)
    stream = driver.create_stream()

    def fail() -> None:
        raise Unsupported("first")

    with pytest.raises(Unsupported, match="first"):
        driver.capture(stream, fail)
    driver.synchronise(stream)


def test_what_is_captured_runs_when_it_is_launched_and_its_template_is_freed() -> None:
    library = FakeLibcuda()
    driver = Driver(library)
    stream, event = driver.create_stream(), driver.create_event()
    graph = driver.capture(stream, lambda: driver.record(event, stream))
    assert list(library.graphs) == [graph]
    driver.launch(graph, stream)
    driver.destroy_graph(graph)
    assert library.graphs == {}
