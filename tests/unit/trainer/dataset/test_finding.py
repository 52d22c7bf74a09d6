"""Vectors of items: what is encoded, what is kept, and for how long."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.dataset import finding
from trainer.dataset.finding import item_vectors


class Counting:
    """An encoder that remembers what it was asked for."""

    def __init__(self, ref: str = "tiny@1") -> None:
        self.ref = ref
        self.asked: list[str] = []

    def encode_passages(self, texts: list[str]) -> Any:
        self.asked += texts
        return np.array([self.vector(text) for text in texts], np.float32)

    def vector(self, text: str) -> list[float]:
        return [float(ord(letter)) for letter in f"{self.ref}{text:>6}"]


def vectors(encoder: Counting, texts: list[str], cache: Path) -> None:
    """They are those of the texts."""
    found = item_vectors(encoder, texts, cache, lambda *_: None)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    assert found.tolist() == [encoder.vector(text) for text in texts]


def test_only_what_is_new_is_encoded(tmp_path: Path) -> None:
    encoder = Counting()
    texts = [f"t{n}" for n in range(50)]
    vectors(encoder, texts, tmp_path)
    assert encoder.asked == texts
    vectors(encoder, texts[::-1], tmp_path)
    vectors(encoder, [*texts[:25], "new", "new", *texts[25:]], tmp_path)
    vectors(encoder, ["new", *texts[3:]], tmp_path)
    assert encoder.asked == [*texts, "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny@1.npz"]


def test_another_encoder_has_its_own(tmp_path: Path) -> None:
    for ref in ("tiny@1", "tiny@2", "tiny@1"):
        vectors(Counting(ref), ["a", "b"], tmp_path)
    encoder = Counting("tiny@2")
    vectors(encoder, ["b", "a"], tmp_path)
    assert encoder.asked == []


def test_what_nobody_asks_for_is_dropped_beyond_a_bound_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_KEPT", 10)
    encoder = Counting()
    for name in "abcd":
        vectors(encoder, [f"{name}{n}" for n in range(4)], tmp_path)
    assert len(encoder.asked) == 16
    vectors(encoder, ["c0", "c3", "d0"], tmp_path)
    assert len(encoder.asked) == 16  # of the latest ten
    vectors(encoder, ["a0"], tmp_path)
    assert encoder.asked[16:] == ["a0"]
    # A catalogue is kept whole, however large.
    large = [f"l{n}" for n in range(60)]
    vectors(encoder, large, tmp_path)
    encoder.asked.clear()
    vectors(encoder, large, tmp_path)
    assert encoder.asked == []


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.98])
def test_a_damaged_file_is_made_anew(tmp_path: Path, kept: float) -> None:
    vectors(Counting(), ["a", "b", "c"], tmp_path)
    file = tmp_path / "tiny@1.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    encoder = Counting()
    vectors(encoder, ["a", "b", "c"], tmp_path)
    assert encoder.asked == ["a", "b", "c"]
    vectors(encoder, ["c"], tmp_path)
    assert encoder.asked == ["a", "b", "c"]


def test_progress_ends_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_CHUNK", 4)
    told: list[tuple[int, int]] = []
    encoder: Any = Counting()
    texts = [f"t{n}" for n in range(10)]
    item_vectors(encoder, texts, tmp_path, lambda *what: told.append(what))
    assert told == [(4, 10), (8, 10), (10, 10)]
    told.clear()
    item_vectors(encoder, [*texts, "x", "x"], tmp_path, lambda *what: told.append(what))
    assert told == [(12, 12)]
