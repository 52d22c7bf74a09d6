"""The CUDA driver, by ctypes: what running an engine needs of it, and whether there is one.

Nothing of CUDA is loaded until `open_driver` is called. ctypes and not `cuda-bindings`: the probe
must come before anything else of NVIDIA's is imported, the driver's interface is stable across
CUDA 11.4 to 13 (functions are named with their version), and there is no wheel to match with the
TensorRT that is installed. ctypes releases the interpreter's lock during every call.
"""

import ctypes
from collections.abc import Callable
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulonglong,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any, Final, Protocol

from neuralrank.errors import OutOfMemory, Unsupported

__all__ = ["Cuda", "Device", "Driver", "open_driver"]

LIBRARY: Final = "libcuda.so.1"

_POINTER_OUT = POINTER(c_void_p)
# Name in the library, and the types of its parameters. All return a CUresult.
_SIGNATURES: Final[dict[str, list[Any]]] = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
    "cuDeviceGetCount": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [_POINTER_OUT, c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [_POINTER_OUT, c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [_POINTER_OUT, c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamWaitEvent": [c_void_p, c_void_p, c_uint],
    "cuEventCreate": [_POINTER_OUT, c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, _POINTER_OUT],
    "cuGraphInstantiateWithFlags": [_POINTER_OUT, c_void_p, c_ulonglong],
    "cuGraphDestroy": [c_void_p],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
}
_OUT_OF_MEMORY = 2
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_STREAM_NON_BLOCKING = 1
_EVENT_DISABLE_TIMING = 2
# Others may allocate and copy meanwhile, in threads of theirs.
_CAPTURE_THREAD_LOCAL = 1


@dataclass(frozen=True, slots=True)
class Device:
    """The first GPU."""

    name: str
    # (9, 0) for Hopper.
    capability: tuple[int, int]
    # What the driver supports, such as 13000.
    driver: int

    @property
    def compute_capability(self) -> str:
        return f"{self.capability[0]}.{self.capability[1]}"


class Cuda(Protocol):
    """What a session needs of CUDA. Handles and addresses are integers.

    Every call raises `Unsupported` with CUDA's own name of the error; `OutOfMemory` for that one.
    """

    @property
    def device(self) -> Device: ...
    def activate(self) -> None: ...
    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def allocate_pinned(self, size: int) -> int: ...
    def free_pinned(self, address: int) -> None: ...
    def create_stream(self) -> int: ...
    def destroy_stream(self, stream: int) -> None: ...
    def create_event(self) -> int: ...
    def destroy_event(self, event: int) -> None: ...
    def copy_in(self, device: int, host: int, size: int, stream: int) -> None: ...
    def copy_out(self, host: int, device: int, size: int, stream: int) -> None: ...
    def record(self, event: int, stream: int) -> None: ...
    def wait(self, stream: int, event: int) -> None: ...
    def synchronise(self, stream: int) -> None: ...
    def capture(self, stream: int, enqueue: Callable[[], None]) -> int: ...
    def launch(self, graph: int, stream: int) -> None: ...
    def destroy_graph(self, graph: int) -> None: ...


def open_driver(name: str = LIBRARY) -> "Driver":
    """Loads the driver and makes sure of a GPU.

    Raises:
        Unsupported: there is no driver, it can't start, or it sees no GPU.
    """
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise Unsupported(
            f"No NVIDIA driver: {error}. Install it, or in a container run with the GPU "
            "(docs/gpu.md)."
        ) from error
    return Driver(library)


class Driver:
    """`Cuda` by the real library: the primary context of the first GPU."""

    def __init__(self, library: Any) -> None:
        """
        Args:
            library: libcuda as ctypes loads it.

        Raises:
            Unsupported: it can't start, or it sees no GPU.
        """
        self._functions: dict[str, Any] = {}
        for name, parameters in _SIGNATURES.items():
            try:
                function = getattr(library, name)
            except AttributeError as error:
                raise Unsupported(
                    f"The NVIDIA driver has no {name}: it is older than CUDA 11.4. Update it."
                ) from error
            function.argtypes, function.restype = parameters, c_int
            self._functions[name] = function
        self._call("cuInit", 0)
        count = c_int()
        self._call("cuDeviceGetCount", byref(count))
        if count.value < 1:
            raise Unsupported("The NVIDIA driver sees no GPU. Check nvidia-smi.")
        device, version = c_int(), c_int()
        self._call("cuDeviceGet", byref(device), 0)
        self._call("cuDriverGetVersion", byref(version))
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), device)
        major, minor = c_int(), c_int()
        self._call("cuDeviceGetAttribute", byref(major), _CAPABILITY_MAJOR, device)
        self._call("cuDeviceGetAttribute", byref(minor), _CAPABILITY_MINOR, device)
        self.device = Device(text.value.decode(), (major.value, minor.value), version.value)
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self.activate()

    def activate(self) -> None:
        """Makes the calling thread use the GPU; each thread must, before anything else."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", address)

    def allocate_pinned(self, size: int) -> int:
        return self._made("cuMemHostAlloc", size, 0)

    def free_pinned(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    def create_stream(self) -> int:
        return self._made("cuStreamCreate", _STREAM_NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy_v2", stream)

    def create_event(self) -> int:
        return self._made("cuEventCreate", _EVENT_DISABLE_TIMING)

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy_v2", event)

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync_v2", device, host, size, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync_v2", host, device, size, stream)

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronise(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """A graph of what `enqueue` puts on the stream; nothing of it runs now."""
        self._call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        try:
            enqueue()
        except BaseException:
            # The stream must not be left capturing; what failed first is what is raised.
            self._functions["cuStreamEndCapture"](stream, byref(graph))
            raise
        self._call("cuStreamEndCapture", stream, byref(graph))
        try:
            return self._made("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)

    def _made(self, name: str, *arguments: Any) -> int:
        """The handle or address that a call writes to its first parameter."""
        made = c_void_p()
        self._call(name, byref(made), *arguments)
        return int(made.value or 0)

    def _call(self, name: str, *arguments: Any) -> None:
        result = self._functions[name](*arguments)
        if result:
            text = c_char_p()
            self._functions["cuGetErrorName"](result, byref(text))
            reason = text.value.decode() if text.value else "unknown"
            kind = OutOfMemory if result == _OUT_OF_MEMORY else Unsupported
            raise kind(f"CUDA: {name} failed with {reason} ({result}).")
