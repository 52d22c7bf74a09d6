"""Which other files an ONNX file refers to, told without loading it.

A tensor of ONNX may keep its data in another file ("external data"), by a path that the file
itself gives. The runtime opens that path, so it is looked at before the runtime is. The protobuf's
own structure is walked, and payloads are skipped: 100 MB of weights take milliseconds and no
memory. Field numbers are those of `onnx.proto3` (ONNX 1.20).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neuralrank.errors import InvalidBundle

__all__ = ["external_locations"]

# Message → field number → message in that field. What is not listed can hold no tensor.
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY: Final = 1
_VALUE: Final = 2
_LENGTH_DELIMITED: Final = 2
# Bytes of a field of fixed length, by wire type.
_FIXED: Final = {1: 8, 5: 4}
# Graphs within nodes within graphs: real models have two or three levels.
_MAX_DEPTH: Final = 64


def external_locations(file: Path) -> set[str]:
    """The paths of external data that an ONNX file names, as they stand there.

    Raises:
        InvalidBundle: the file is not a protobuf message of ONNX's structure.
    """
    with file.open("rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise InvalidBundle(f"{file} is empty. Add the bundle anew.") from error
        with data:
            found: set[str] = set()
            try:
                _walk(data, 0, len(data), "model", found, 0)
            except (ValueError, IndexError) as error:
                raise InvalidBundle(
                    f"{file} is not an ONNX file: {error}. Add the bundle anew."
                ) from error
            return found


def _walk(data: mmap.mmap, start: int, end: int, message: str, found: set[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs are nested deeper than {_MAX_DEPTH}")
    inner = _MESSAGES[message]
    for number, first, last in _fields(data, start, end):
        kind = inner.get(number)
        if kind == "entry":
            found |= _location(data, first, last)
        elif kind is not None:
            _walk(data, first, last, kind, found, depth + 1)


def _location(data: mmap.mmap, start: int, end: int) -> set[str]:
    """The values of an entry of key `location`; a key or value that comes twice counts twice."""
    keys, values = set(), set()
    for number, first, last in _fields(data, start, end):
        if number == _KEY:
            keys.add(data[first:last])
        elif number == _VALUE:
            values.add(data[first:last].decode("utf-8", "replace"))
    return values if b"location" in keys else set()


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last + 1 of each length-delimited field of a message."""
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        wire = tag & 7
        if wire == 0:
            _, place = _varint(data, place, end)
        elif wire in _FIXED:
            place += _FIXED[wire]
        elif wire == _LENGTH_DELIMITED:
            length, place = _varint(data, place, end)
            if place + length > end:
                raise ValueError(f"a field at byte {place} ends beyond its message")
            yield tag >> 3, place, place + length
            place += length
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
    if place != end:
        raise ValueError(f"a field ends beyond its message at byte {end}")


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError(f"a number at byte {place} does not end")
