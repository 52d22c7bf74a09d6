"""Reads the tensors of a file that old versions of torch wrote, without torch.

Such a file is a pickle, which in general is a program. Here it may name four things, all of which
are known; anything else is refused before it is called. Only models' packages are read so, when a
bundle is made: a bundle itself never holds a pickle.

Format: `torch.serialization._legacy_save`: magic number, protocol, sizes, the object with tensors
as references into storages, the storages' keys, then each storage as count and numbers.
"""

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput

__all__ = ["read_torch_file"]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
# Kinds of storages by torch's name, as numpy's.
_KINDS: Final = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Tensor:
    """A place in a storage, until the storages are read."""

    def __init__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> None:
        self.kind, self.key = storage
        self.offset, self.size, self.stride = offset, tuple(size), tuple(stride)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _KINDS:
            return _KINDS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no file of tensors needs")

    def persistent_load(self, pid: Any) -> Any:
        what, kind, key, *_ = pid
        if what != "storage":
            raise pickle.UnpicklingError(f"it refers to a {what!r}")
        return kind, key


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a `state_dict` by name.

    Raises:
        InvalidInput: the file is not of this format, is cut short, or names what it need not.
    """
    try:
        return _read(path.read_bytes())
    except (pickle.UnpicklingError, struct.error, ValueError, EOFError, KeyError, TypeError,
            AttributeError, IndexError) as error:  # fmt: skip
        raise InvalidInput(
            f"{path} is not a whole file of tensors as torch wrote them before version 1.6 "
            f"({error}). Save others as safetensors."
        ) from error


def _read(data: bytes) -> dict[str, NDArray[Any]]:
    stream = io.BytesIO(data)
    magic, protocol = _Unpickler(stream).load(), _Unpickler(stream).load()
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError(f"it begins with {magic!r}, {protocol!r}")
    _Unpickler(stream).load()  # sizes of C's types on the machine that wrote it
    tensors = _Unpickler(stream).load()
    keys = _Unpickler(stream).load()
    kinds = {tensor.key: tensor.kind for tensor in tensors.values()}
    position = stream.tell()
    storages: dict[str, NDArray[Any]] = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, position)
        storages[key] = np.frombuffer(data, kinds[key], count, position + 8)
        position += 8 + storages[key].nbytes
    return {name: _whole(tensor, storages[tensor.key]) for name, tensor in tensors.items()}


def _whole(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    """The tensor, contiguous."""
    numbers = storage[tensor.offset :]
    count = int(np.prod(tensor.size))
    last = sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if count and last >= len(numbers):
        raise ValueError(f"a tensor of shape {tensor.size} reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(numbers, tensor.size, strides).copy()
