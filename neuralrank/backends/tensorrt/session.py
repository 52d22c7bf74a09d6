"""Runs an engine: pinned buffers, copies beside compute, and a CUDA graph for each bucket.

All computing is on one stream of ours, one run after the other. Each slot has a stream for its
copies and its own buffers, so that the texts of the next caller are on their way while those of the
last one are computed:

    slot 1 stream   in──┐                    ┌──out
    slot 2 stream     in│──────────┐         │        ┌──out
    compute stream      └─ graph 1 ─┴ graph 2 ┘────────┘

A captured graph is bound to its execution context, shape and addresses. So each bucket of each slot
has a context of its own, with the bucket's optimisation profile, and all contexts share one scratch
memory, which is safe because their runs never overlap.
"""

import ctypes
import logging
import queue
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.tensorrt.driver import Cuda
from neuralrank.backends.tensorrt.library import Library
from neuralrank.backends.tensorrt.profiles import Bucket, Profile, Router
from neuralrank.errors import InvalidInput, OutOfMemory, Unsupported

__all__ = ["Session"]

_log = logging.getLogger(__name__)

_SLOTS: Final = 2
# Graphs kept of each slot; the one used longest ago makes room.
_PROGRAMS: Final = 64

Array = NDArray[Any]


@dataclass(frozen=True)
class _Tensor:
    """An input or output of the engine; None in its shape is the batch, or the length."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def most_bytes(self, profiles: Sequence[Profile]) -> int:
        counts = (int(np.prod(p.shape(self.shape, p.most), dtype=np.int64)) for p in profiles)
        return max(counts) * self.dtype.itemsize


@dataclass(frozen=True)
class _Buffer:
    """The same bytes in pinned memory and on the GPU."""

    host: int
    device: int
    size: int

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The pinned memory as an array of a shape that fits in it."""
        memory = memoryview((ctypes.c_ubyte * self.size).from_address(self.host))
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(memory, dtype, count).reshape(shape)


@dataclass(frozen=True)
class _Program:
    """A context that is ready to run one bucket; `graph` is 0 where it could not be captured."""

    context: Any
    graph: int


@dataclass(frozen=True)
class _Slot:
    stream: int
    arrived: int
    computed: int
    buffers: Mapping[str, _Buffer]
    programs: OrderedDict[Bucket, _Program] = field(default_factory=OrderedDict)


class Session:
    """A loaded engine. Safe to call from several threads."""

    def __init__(
        self, library: Library, cuda: Cuda, engine: bytes, profiles: Sequence[Profile]
    ) -> None:
        """
        Args:
            profiles: those that it was built with, in that order.

        Raises:
            OutOfMemory: the GPU's memory is used up.
            Unsupported: the engine can't be loaded.
        """
        self._trt = library.module
        self._cuda = cuda
        self._profiles = tuple(profiles)
        self.router = Router(profiles)
        cuda.activate()
        self._runtime = library.module.Runtime(library.logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise Unsupported(
                f"{library.name} {library.version} can't load the engine; its messages in the log "
                "say why."
            )
        self._inputs, self._output = self._tensors()
        self._owned: list[Callable[[], None]] = []
        # When nobody holds the session any more, or when it could not be made.
        self._release = weakref.finalize(self, _give_back, cuda, self._owned)
        self._release.atexit = False
        self._compute = self._own(cuda.create_stream(), cuda.destroy_stream)
        self._scratch_size = int(self._engine.device_memory_size_v2)
        # An address even where nothing is needed.
        size = max(self._scratch_size, 256)
        self._scratch = self._own(cuda.allocate(size), cuda.free)
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(_SLOTS):
            self._idle.put(self._slot())

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset(tensor.name for tensor in self._inputs)

    def run(self, feeds: Mapping[str, Array]) -> NDArray[np.float32]:
        """The first output, float32 [rows, width], of inputs [rows, ..].

        Raises:
            InvalidInput: they are longer than every profile.
            OutOfMemory: for a bucket that is needed for the first time; others go on.
            Unsupported: the GPU failed.
        """
        first = np.asarray(feeds[self._inputs[0].name])
        rows = len(first)
        length = first.shape[1] if self._inputs[0].shape.count(None) > 1 else 0
        most = self.router.most(length)
        parts = [
            self._run({name: value[start : start + most] for name, value in feeds.items()}, length)
            for start in range(0, rows, most)
        ]
        if not parts:
            raise InvalidInput("No rows were given; at least one is needed.")
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Gives the GPU's memory back. Nobody may be running anything."""
        self._release()

    def _run(self, feeds: Mapping[str, Array], length: int) -> NDArray[np.float32]:
        cuda = self._cuda
        rows = len(next(iter(feeds.values())))
        bucket = self.router.bucket(rows, length)
        profile = self._profiles[self._position(bucket)]
        slot = self._idle.get()
        try:
            cuda.activate()
            for tensor in self._inputs:
                buffer = slot.buffers[tensor.name]
                array = buffer.array(tensor.dtype, profile.shape(tensor.shape, bucket.batch))
                _fill(array, feeds[tensor.name])
                cuda.copy_in(buffer.device, buffer.host, array.nbytes, slot.stream)
            cuda.record(slot.arrived, slot.stream)
            with self._lock:
                cuda.wait(self._compute, slot.arrived)
                program = self._program(slot, bucket)
                if program.graph:
                    cuda.launch(program.graph, self._compute)
                else:
                    self._enqueue(program.context)
                cuda.record(slot.computed, self._compute)
            cuda.wait(slot.stream, slot.computed)
            buffer = slot.buffers[self._output.name]
            array = buffer.array(
                self._output.dtype, profile.shape(self._output.shape, bucket.batch)
            )
            cuda.copy_out(buffer.host, buffer.device, array.nbytes, slot.stream)
            cuda.synchronise(slot.stream)
            return np.array(array[:rows], np.float32)
        finally:
            self._idle.put(slot)

    def _program(self, slot: _Slot, bucket: Bucket) -> _Program:
        """The slot's context and graph for a bucket; made the first time that it is needed."""
        found = slot.programs.get(bucket)
        if found is not None:
            slot.programs.move_to_end(bucket)
            return found
        cuda = self._cuda
        context = self._context(slot, bucket)
        # Once for real: what a new shape puts off until it runs must not be captured.
        self._enqueue(context)
        cuda.synchronise(self._compute)
        try:
            graph = cuda.capture(self._compute, lambda: self._enqueue(context))
        except Unsupported as error:
            _log.warning("no CUDA graph for %s: %s; it runs without one", bucket, error)
            graph = 0
        if len(slot.programs) >= _PROGRAMS:
            _, old = slot.programs.popitem(last=False)
            if old.graph:
                self._owned.remove(self._destroyer(old.graph))
                cuda.destroy_graph(old.graph)
        program = _Program(context, graph)
        if graph:
            self._owned.append(self._destroyer(graph))
        slot.programs[bucket] = program
        return program

    def _context(self, slot: _Slot, bucket: Bucket) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise OutOfMemory(f"No execution context for {bucket}: the GPU's memory is used up.")
        context.set_device_memory(self._scratch, self._scratch_size)
        position = self._position(bucket)
        if not context.set_optimization_profile_async(position, self._compute):
            raise Unsupported(f"TensorRT does not take profile {position} for {bucket}.")
        self._cuda.synchronise(self._compute)
        profile = self._profiles[position]
        for tensor in self._inputs:
            shape = profile.shape(tensor.shape, bucket.batch)
            if not context.set_input_shape(tensor.name, shape):
                raise Unsupported(f"TensorRT does not take {tensor.name} of shape {shape}.")
        for name, buffer in slot.buffers.items():
            context.set_tensor_address(name, buffer.device)
        missing = context.infer_shapes()
        if missing:
            raise Unsupported(f"TensorRT knows too little of {', '.join(missing)} for {bucket}.")
        return context

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._compute):
            raise Unsupported("TensorRT could not enqueue a run; its messages in the log say why.")

    def _position(self, bucket: Bucket) -> int:
        return next(i for i, p in enumerate(self._profiles) if p.length == bucket.length)

    def _tensors(self) -> tuple[list[_Tensor], _Tensor]:
        inputs: list[_Tensor] = []
        outputs: list[_Tensor] = []
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            tensor = _Tensor(
                name,
                np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))),
                tuple(n if n >= 0 else None for n in self._engine.get_tensor_shape(name)),
            )
            mode = self._engine.get_tensor_mode(name)
            (inputs if mode == self._trt.TensorIOMode.INPUT else outputs).append(tensor)
        if len(outputs) != 1 or not inputs:
            raise Unsupported(
                f"The engine has {len(inputs)} inputs and {len(outputs)} outputs; served are those "
                "with one output."
            )
        return inputs, outputs[0]

    def _slot(self) -> _Slot:
        cuda = self._cuda
        buffers = {}
        for tensor in (*self._inputs, self._output):
            size = tensor.most_bytes(self._profiles)
            buffers[tensor.name] = _Buffer(
                self._own(cuda.allocate_pinned(size), cuda.free_pinned),
                self._own(cuda.allocate(size), cuda.free),
                size,
            )
        return _Slot(
            self._own(cuda.create_stream(), cuda.destroy_stream),
            self._own(cuda.create_event(), cuda.destroy_event),
            self._own(cuda.create_event(), cuda.destroy_event),
            buffers,
        )

    def _own(self, handle: int, destroy: Callable[[int], None]) -> int:
        self._owned.append(_Destroyer(destroy, handle))
        return handle

    def _destroyer(self, graph: int) -> "_Destroyer":
        return _Destroyer(self._cuda.destroy_graph, graph)


@dataclass(frozen=True)
class _Destroyer:
    """What gives one handle back."""

    destroy: Callable[[int], None]
    handle: int

    def __call__(self) -> None:
        self.destroy(self.handle)


def _give_back(cuda: Cuda, owned: list[Callable[[], None]]) -> None:
    """Gives everything back, the newest first. After an error of the GPU nothing works any more:
    the driver frees it with the process."""
    try:
        cuda.activate()
        while owned:
            owned.pop()()
    except Unsupported as error:
        _log.warning("the GPU's memory could not be given back: %s", error)


def _fill(target: Array, values: Array) -> None:
    """Copies [rows, length] into the bucket's [batch, longer]: zeros behind each row, which the
    mask leaves out, and the first row again where rows are missing: any real row does."""
    rows = len(values)
    part = tuple(slice(size) for size in values.shape[1:])
    target[...] = 0
    target[(slice(rows), *part)] = values
    target[rows:] = target[0]
