"""A GPU for tests: libcuda's functions with their C prototypes, and a TensorRT that computes by
ONNX Runtime. Streams are asynchronous as the real ones are: nothing on a stream has happened until
it is waited for, in an order that events alone decide. So what forgets to wait reads old numbers.
"""

import ctypes
import itertools
import json
import threading
from collections import deque
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.unit.backends.rounding import rounded

OUT = POINTER(c_void_p)
OUT_OF_MEMORY, INVALID, LAUNCH_FAILED = 2, 1, 719
NAMES = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 719: b"CUDA_ERROR_LAUNCH_FAILED", 1: b"INVALID"}


class Mark:
    """A point on a stream that others may wait for."""

    def __init__(self, stream: "Stream") -> None:
        self.stream = stream
        self.passed = False


class Stream:
    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None] | Mark | tuple[str, Mark]] = deque()
        self.captured: list[Any] | None = None

    def add(self, work: Any) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)

    def drain(self, until: Mark | None = None) -> None:
        while self.waiting and not (until and until.passed):
            work = self.waiting.popleft()
            if isinstance(work, Mark):
                work.passed = True
            elif isinstance(work, tuple):
                work[1].stream.drain(work[1])
            else:
                work()


class FakeLibcuda:
    """What `ctypes.CDLL("libcuda.so.1")` gives, for `Driver`."""

    def __init__(
        self, *, capability: tuple[int, int] = (9, 0), gpus: int = 1, init: int = 0
    ) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self.memory: dict[int, ctypes.Array] = {}
        self.pinned: set[int] = set()
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Mark | None] = {}
        self.graphs: dict[int, list[Any]] = {}
        self.launches = 0
        self.lock = threading.RLock()
        self.active: set[int] = set()
        self._numbers = itertools.count(1_000)
        self._capability, self._gpus, self._init = capability, gpus, init
        for name, parameters in PROTOTYPES.items():
            setattr(self, name, self._callback(name, parameters))

    def _callback(self, name: str, parameters: list[Any]) -> Any:
        method = getattr(self, f"_{name.removesuffix('_v2')}")

        def call(*arguments: Any) -> int:
            with self.lock:
                self.calls.append(name)
                needs_context = name.startswith(("cuMem", "cuStream", "cuEvent", "cuGraph"))
                if needs_context and threading.get_ident() not in self.active:
                    return 201  # CUDA_ERROR_INVALID_CONTEXT
                return self.failing.get(name) or method(*arguments) or 0

        return CFUNCTYPE(c_int, *parameters)(call)

    def _cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._init

    def _cuDriverGetVersion(self, out: Any) -> None:
        out[0] = 12_060

    def _cuGetErrorName(self, code: int, out: Any) -> None:
        out[0] = NAMES.get(code, b"CUDA_ERROR_OTHER")

    def _cuDeviceGetCount(self, out: Any) -> None:
        out[0] = self._gpus

    def _cuDeviceGet(self, out: Any, number: int) -> None:
        out[0] = number

    def _cuDeviceGetName(self, text: int, size: int, device: int) -> None:
        ctypes.memmove(text, b"Fake GPU\0", 9)
        assert (size, device) == (256, 0)

    def _cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> None:
        assert device == 0
        out[0] = self._capability[{75: 0, 76: 1}[attribute]]

    def _cuDevicePrimaryCtxRetain(self, out: Any, device: int) -> None:
        assert device == 0
        out[0] = 77

    def _cuCtxSetCurrent(self, context: int) -> None:
        assert context == 77
        self.active.add(threading.get_ident())

    def _cuMemAlloc(self, out: Any, size: int) -> int:
        if not size:
            return INVALID
        # Rubbish, as in real memory.
        block = (ctypes.c_ubyte * size)(*([0xA5] * min(size, 64)))
        self.memory[ctypes.addressof(block)] = block
        out[0] = ctypes.addressof(block)
        return 0

    def _cuMemFree(self, address: int) -> int:
        return 0 if self.memory.pop(address, None) is not None else INVALID

    def _cuMemHostAlloc(self, out: Any, size: int, flags: int) -> int:
        assert flags == 0
        holder = (c_uint64 * 1)()
        self._cuMemAlloc(holder, size)
        out[0] = holder[0]
        self.pinned.add(holder[0])
        return 0

    def _cuMemFreeHost(self, address: int) -> int:
        self.pinned.remove(address)
        return self._cuMemFree(address)

    def block(self, address: int, size: int) -> int:
        """Checks that these bytes are allocated."""
        for start, block in self.memory.items():
            if start <= address and address + size <= start + len(block):
                return address
        raise AssertionError(f"{size} bytes at {address} are not allocated")

    def _copy(self, target: int, source: int, size: int, stream: int) -> int:
        self.block(target, size)
        self.block(source, size)
        self.streams[stream].add(lambda: ctypes.memmove(target, source, size) and None)
        return 0

    def _cuMemcpyHtoDAsync(self, device: int, host: int, size: int, stream: int) -> int:
        assert host in self.pinned
        return self._copy(device, host, size, stream)

    def _cuMemcpyDtoHAsync(self, host: int, device: int, size: int, stream: int) -> int:
        assert host in self.pinned
        return self._copy(host, device, size, stream)

    def _new(self, out: Any) -> int:
        number = next(self._numbers)
        out[0] = number
        return number

    def _cuStreamCreate(self, out: Any, flags: int) -> None:
        assert flags == 1, "not beside the default stream"
        self.streams[self._new(out)] = Stream()

    def _cuStreamDestroy(self, stream: int) -> None:
        del self.streams[stream]

    def _cuStreamSynchronize(self, stream: int) -> None:
        assert self.streams[stream].captured is None
        self.streams[stream].drain()

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        assert flags == 0
        mark = self.events[event]
        if mark is not None:
            self.streams[stream].add(("wait", mark))

    def _cuEventCreate(self, out: Any, flags: int) -> None:
        assert flags == 2
        self.events[self._new(out)] = None

    def _cuEventRecord(self, event: int, stream: int) -> None:
        mark = self.events[event] = Mark(self.streams[stream])
        self.streams[stream].add(mark)

    def _cuEventDestroy(self, event: int) -> None:
        del self.events[event]

    def _cuStreamBeginCapture(self, stream: int, mode: int) -> None:
        assert mode == 1
        self.streams[stream].captured = []

    def _cuStreamEndCapture(self, stream: int, out: Any) -> None:
        work, self.streams[stream].captured = self.streams[stream].captured, None
        self.graphs[self._new(out)] = work or []

    def _cuGraphInstantiateWithFlags(self, out: Any, graph: int, flags: int) -> None:
        assert flags == 0
        self.graphs[self._new(out)] = self.graphs[graph]

    def _cuGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:
        self.launches += 1
        for work in self.graphs[graph]:
            self.streams[stream].add(work)


# As cuda.h has them.
PROTOTYPES: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
    "cuDeviceGetCount": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_void_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [OUT, c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [OUT, c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [OUT, c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamWaitEvent": [c_void_p, c_void_p, c_uint],
    "cuEventCreate": [OUT, c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, OUT],
    "cuGraphInstantiateWithFlags": [OUT, c_void_p, ctypes.c_ulonglong],
    "cuGraphDestroy": [c_void_p],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
}


class Network:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, i: int) -> Any:
        given = self.model.graph.input[i]
        return SimpleNamespace(name=given.name, shape=shape_of(given))


def shape_of(given: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = given.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


class Config:
    def __init__(self) -> None:
        self.profiles: list[dict[str, list[list[int]]]] = []
        self.progress_monitor: Any = None

    def clear_flag(self, flag: str) -> None:
        assert flag == "TF32"

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content + b"t")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch and cache is not None


class Context:
    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.memory: tuple[int, int] | None = None
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        self.engine.gpu.block(address, size)
        self.memory = (address, size)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return stream in self.engine.gpu.streams

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profiles[self.profile][name]
        self.shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def infer_shapes(self) -> list[str]:
        return sorted(set(self.engine.inputs) - set(self.shapes))

    def execute_async_v3(self, stream: int) -> bool:
        assert self.memory == (self.memory and self.memory[0], self.engine.device_memory_size_v2)
        if self.engine.module.failing:
            return False
        shapes = dict(self.shapes)
        addresses = dict(self.addresses)
        self.engine.gpu.streams[stream].add(lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        engine = self.engine
        feeds = {}
        for name, shape in shapes.items():
            size = int(np.prod(shape)) * engine.types[name].itemsize
            raw = ctypes.string_at(engine.gpu.block(addresses[name], size), size)
            feeds[name] = np.frombuffer(raw, engine.types[name]).reshape(shape)
        result = engine.session.run([engine.output], feeds)[0] + engine.module.error
        result = np.ascontiguousarray(result, np.float32)
        if engine.module.off(*shapes[engine.inputs[0]]):
            result += 1 + (np.arange(len(result)) * 7 % 5)[:, None]
        target = engine.gpu.block(addresses[engine.output], result.nbytes)
        ctypes.memmove(target, result.ctypes.data, result.nbytes)


class Engine:
    device_memory_size_v2 = 4_096

    def __init__(self, module: "FakeTensorRt", content: bytes) -> None:
        head, _, model = content.partition(b"\n")
        self.module, self.gpu = module, module.gpu
        self.profiles = json.loads(head)
        loaded = onnx.load_from_string(model)
        graph = loaded.graph
        # The CPU behind this has no products in bfloat16.
        if any(item.data_type == onnx.TensorProto.BFLOAT16 for item in graph.initializer):
            model = rounded(loaded).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.inputs = [given.name for given in graph.input]
        self.output = graph.output[0].name
        self._shapes = {v.name: shape_of(v) for v in (*graph.input, *graph.output)}
        self.types = {
            v.name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type))
            for v in (*graph.input, *graph.output)
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._shapes)

    def get_tensor_name(self, i: int) -> str:
        return list(self._shapes)[i]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "user"
        if self.module.full:
            return None
        self.module.contexts += 1
        return Context(self)


class FakeTensorRt:
    """The module. `error` is added to every number that it computes; `off` says of which rows and
    lengths the numbers are another's; `failing` refuses to run; `full` has no memory for a context.
    """

    __name__ = "tensorrt"
    __version__ = "10.6.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="TF32")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")

    class ILogger:
        pass

    class IProgressMonitor:
        pass

    def __init__(self, gpu: FakeLibcuda) -> None:
        self.gpu = gpu
        self.error = 0.0
        self.off: Callable[[int, int], bool] = lambda _rows, _length: False
        self.failing = False
        self.full = False
        self.logger: Any = None
        self.builds = 0
        self.contexts = 0

    def nptype(self, dtype: Any) -> Any:
        return dtype

    def _hear(self, logger: Any) -> None:
        """TensorRT has one logger in a process: the first."""
        self.logger = self.logger or logger
        assert logger is self.logger, "another logger than the first"

    def Runtime(self, logger: Any) -> Any:
        self._hear(logger)

        def load(content: bytes) -> Engine | None:
            return None if content == b"rubbish" else Engine(self, content)

        return SimpleNamespace(deserialize_cuda_engine=load)

    def OnnxParser(self, network: Network, logger: Any) -> Any:
        self._hear(logger)

        def parse(content: bytes) -> bool:
            network.model.ParseFromString(content)
            return True

        return SimpleNamespace(parse=parse)

    def Builder(self, logger: Any) -> Any:
        self._hear(logger)

        def profile() -> Any:
            shapes: dict[str, list[tuple[int, ...]]] = {}
            return SimpleNamespace(
                shapes=shapes, set_shape=lambda name, *three: shapes.update({name: list(three)})
            )

        def build(network: Network, config: Config) -> bytes:
            self.builds += 1
            if config.progress_monitor:
                config.progress_monitor.phase_start("Building", None, 2)
                config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
            return json.dumps(config.profiles).encode() + b"\n" + network.model.SerializeToString()

        return SimpleNamespace(
            create_network=lambda flags: Network() if flags == 2 else None,
            create_builder_config=Config,
            create_optimization_profile=profile,
            build_serialized_network=build,
        )
