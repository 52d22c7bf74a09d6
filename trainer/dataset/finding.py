"""What a search would have found: BM25 on words, nearest neighbours on vectors.

For hard negatives (what is found and not liked) and for what is known of a pair without looking at
where it stood.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.encoders.encoder import Encoder
from neuralrank.files.whole import whole_file
from neuralrank.text.cleaning import clean

__all__ = ["Bm25", "Neighbours", "item_vectors", "words"]

# Letters and digits of scripts with spaces; and characters of those without, one by one.
_WORD: Final = re.compile(
    r"[^\W_\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+|[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
_NO_SPACES: Final = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# Texts that are encoded before progress is told.
_CHUNK: Final = 512
# So many vectors of an encoder may be kept (150 MB with 384 numbers), or twice those asked for now.
_KEPT: Final = 100_000
_KEY_BYTES: Final = 16

Floats = NDArray[np.float32]


def words(text: str) -> list[str]:
    """Words in lower case; of Chinese, Japanese and Korean each two neighbouring characters, as
    Lucene's CJKAnalyzer does."""
    found: list[str] = []
    for run in _WORD.findall(clean(text).casefold()):
        if _NO_SPACES.match(run) and len(run) > 1:
            found += [run[at : at + 2] for at in range(len(run) - 1)]
        else:
            found.append(run)
    return found


class Bm25:
    """Lucene's BM25 (k1 1.2, b 0.75) over the items' texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        self._known: Mapping[str, int] = {}
        self._items = len(texts)
        of_items = [words(text) for text in texts]
        if any(of_items):  # without a word there is nothing to index
            self._index.index(of_items, show_progress=False)
            self._known = self._index.vocab_dict

    def scores(self, query: str) -> Floats:
        """Of all items, float32 [items]; 0 where no word is shared."""
        tokens = [word for word in words(query) if word in self._known]
        if not tokens:
            return np.zeros(self._items, np.float32)
        return np.asarray(self._index.get_scores(tokens), np.float32)


@dataclass(frozen=True)
class Neighbours:
    """Cosines of a query's vector and the items'."""

    encoder: Encoder
    vectors: Floats  # [items, d], of length 1

    def scores(self, query: str) -> Floats:
        """Of all items, float32 [items]."""
        return np.asarray(self.vectors @ self.encoder.encode_queries([query])[0], np.float32)


def item_vectors(
    encoder: Encoder,
    headlines: Sequence[str],
    cache: Path,
    progress: Callable[[int, int], None],
) -> Floats:
    """Vectors of the items, float32 [items, d]; a text is encoded once by an encoder.

    Args:
        cache: the folder where they are kept, in one file for each encoder.
        progress: is told how many are done, of how many.
    """
    file = cache / f"{encoder.ref}.npz"
    row_of, vectors = _kept(file)
    asked = [_key(text) for text in headlines]
    new = {key: text for key, text in zip(asked, headlines, strict=True) if key not in row_of}
    if new:
        parts = [vectors] if row_of else []
        texts = list(new.values())
        for start in range(0, len(texts), _CHUNK):
            parts.append(encoder.encode_passages(texts[start : start + _CHUNK]))
            left = max(0, len(texts) - start - _CHUNK)
            progress(len(headlines) - left, len(headlines))
        row_of |= {key: row for row, key in enumerate(new, len(row_of))}
        vectors = np.concatenate(parts)
        _keep(file, row_of, vectors, dict.fromkeys(asked))
    return vectors[[row_of[key] for key in asked]]


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


def _kept(file: Path) -> tuple[dict[bytes, int], Floats]:
    """Rows by keys of texts, and their vectors; none where the file is missing or damaged."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            keys, vectors = found["keys"], found["vectors"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return {}, np.empty((0, 0), np.float32)
    names = keys.view(f"V{_KEY_BYTES}").ravel().tolist()
    return {key: row for row, key in enumerate(names)}, vectors


def _keep(
    file: Path, row_of: Mapping[bytes, int], vectors: Floats, used: Collection[bytes]
) -> None:
    """Writes what is used now and, up to a bound, what was used before, the latest first: of
    products that are gone the vectors go too, and shops that take turns keep theirs."""
    order = [*used, *(key for key in row_of if key not in used)][: max(_KEPT, 2 * len(used))]
    flat = np.frombuffer(b"".join(order), np.uint8).reshape(-1, _KEY_BYTES)
    with whole_file(file) as unfinished:
        np.savez(unfinished, keys=flat, vectors=vectors[[row_of[key] for key in order]])


def best(scores: Floats, count: int) -> NDArray[np.intp]:
    """Positions of the highest scores above 0, best first."""
    count = min(count, len(scores))
    top = np.argpartition(-scores, count - 1)[:count]
    top = top[np.lexsort((top, -scores[top]))]
    return top[scores[top] > 0]
