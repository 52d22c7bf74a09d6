"""Which tokens a masked language model has to guess, and what it sees in their place.

Devlin et al. (2019), section 3.1: 15% of the tokens are to be guessed; of these 80% are replaced by
the mask, 10% by a random token, and 10% stay. Whole words are chosen (Cui et al., "Pre-Training
with Whole Word Masking for Chinese BERT", 2021): a word's middle is told by its ends. Chinese is
written without spaces, so that there each token counts as a word of its own; with a vocabulary
of `trainer.pretrain.tokenizer` most tokens of two and more characters are words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

__all__ = ["IGNORED", "Masks", "masked", "padded", "words"]

# The label of a token that is not to be guessed; torch's cross entropy skips it.
IGNORED: Final = -100
_MASKED: Final = 0.8
_RANDOM: Final = 0.1
# Blocks of ideographs, kana and bopomofo: scripts without spaces between words.
_SPACELESS: Final = ((0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Masks:
    """What masking needs to know of a vocabulary."""

    mask: int
    # Tokens that a random one may be: all but special ones.
    ordinary: Ids
    # The share of tokens that are to be guessed.
    share: float = 0.15


def words(encoding: Encoding) -> NDArray[np.int64]:
    """The word that each token is part of, int64 [tokens], counted from 0; -1: a special token."""
    result = np.full(len(encoding), -1, np.int64)
    word, before = -1, None
    parts = zip(
        encoding.word_ids, encoding.sequence_ids, encoding.tokens, encoding.special_tokens_mask,
        strict=True,
    )  # fmt: skip
    for place, (number, sequence, token, special) in enumerate(parts):
        if special or number is None:
            before = None
            continue
        if before != (sequence, number) or _spaceless(token):
            word += 1
        # What follows a token of such a script begins a new word, too.
        before = None if _spaceless(token) else (sequence, number)
        result[place] = word
    return result


def masked(ids: Ids, word_of: Ids, masks: Masks, random: np.random.Generator) -> tuple[Ids, Ids]:
    """What the model sees, and what it has to guess.

    Args:
        ids: int64 [tokens].
        word_of: from `words`.

    Returns:
        Ids with some replaced, and labels: the id where it is to be guessed, else `IGNORED`; both
        int64 [tokens]. A text with any word has at least one to be guessed.
    """
    seen, labels = ids.copy(), np.full_like(ids, IGNORED)
    known = word_of[word_of >= 0]
    if not len(known):
        return seen, labels
    sizes = np.bincount(known)
    order = random.permutation(len(sizes))
    # Words in random order until they have the share of tokens; the first one in any case.
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = order[before < max(1, round(masks.share * len(known)))]
    guessed = np.flatnonzero(np.isin(word_of, chosen) & (word_of >= 0))
    labels[guessed] = ids[guessed]
    kind = random.random(len(guessed))
    seen[guessed[kind < _MASKED]] = masks.mask
    other = guessed[(kind >= _MASKED) & (kind < _MASKED + _RANDOM)]
    seen[other] = random.choice(masks.ordinary, len(other))
    return seen, labels


def _spaceless(token: str) -> bool:
    return any(low <= ord(character) <= high for character in token for low, high in _SPACELESS)


def padded(rows: Sequence[Ids], value: int) -> Ids:
    """Rows of any length as one array [rows, longest]."""
    longest = max(map(len, rows))
    result = np.full((len(rows), longest), value, np.int64)
    for row, values in zip(result, rows, strict=True):
        row[: len(values)] = values
    return result
