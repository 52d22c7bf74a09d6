"""Reads a file that somebody says is ONNX."""

from pathlib import Path

import onnx

from neuralrank.errors import InvalidInput

__all__ = ["read_onnx"]


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file.

    Raises:
        InvalidInput: it is not ONNX.
    """
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's own errors share no better base class
        raise InvalidInput(f"{path} is not an ONNX file: {error}") from error
