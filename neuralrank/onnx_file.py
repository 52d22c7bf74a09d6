"""Reads a file that somebody says is ONNX, and writes one."""

from pathlib import Path
from typing import Final

import onnx

from neuralrank.errors import InvalidInput

__all__ = ["fits_one_file", "read_onnx", "write_onnx"]

# Protobuf ends at 2 GiB; what is not weights takes little.
_ONE_FILE_BYTES: Final = 1_900_000_000
# Weights that would not fit lie beside the graph; a bundle lists the file as any other.
_DATA: Final = "model.data"


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file.

    Raises:
        InvalidInput: it is not ONNX.
    """
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's own errors share no better base class
        raise InvalidInput(f"{path} is not an ONNX file: {error}") from error


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Whether a graph and its weights are small enough for one protobuf message."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    return size <= _ONE_FILE_BYTES


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model; weights that one file can't hold go to `model.data` in the same folder."""
    if fits_one_file(model):
        onnx.save(model, str(path))
    else:
        onnx.save(model, str(path), save_as_external_data=True, location=_DATA)
