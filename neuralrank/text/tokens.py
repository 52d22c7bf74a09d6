"""Texts to token ids, and token ids to the arrays that a graph takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, normalizers

from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import InvalidBundle

__all__ = [
    "Ids",
    "Tokens",
    "beginning",
    "load_tokenizer",
    "padded",
    "read_tokenizer",
    "tokens_of",
]

Ids = NDArray[np.int32]
# Words, and a character for private use, which no vocabulary knows: a model whose unknown token is
# missing fails at the first such text, a template with tokens that are not there at the first pair,
# and neither must be somebody's request.
_ANYTHING = "a red one 红 \ue000"
# Of a text that are looked at, for each token that is kept of it.
_CHARACTERS: Final = 16
# Those that some model holds, by the file's hash and where they cut.
_shared: WeakValueDictionary[tuple[str, int | None], Tokenizer] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What a model reads of one text or pair: `ids` int32 [n] and `types` int8 [n], the segment
    that each token belongs to. Never changed: it is shared between requests."""

    ids: Ids
    types: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ids)


def load_tokenizer(bundle: Bundle, *, cutting: bool = True) -> Tokenizer:
    """The bundle's tokenizer, without padding. Shared: not to be changed.

    Bundles that were trained from one another have the same vocabulary. It is parsed once while
    one of them is loaded, since parsing takes tens of milliseconds in which no other thread of
    Python runs, and so no request.

    Args:
        cutting: at the bundle's `max_tokens`.

    Raises:
        InvalidBundle: the file is not a tokenizer.
    """
    longest = bundle.manifest.max_tokens if cutting else None
    key = (bundle.vocabulary, longest)
    tokenizer = _shared.get(key)
    if tokenizer is None:
        tokenizer = read_tokenizer(bundle.tokenizer.read_bytes(), str(bundle.tokenizer))
        if longest is not None:
            tokenizer.enable_truncation(longest)
        _shared[key] = tokenizer
    return tokenizer


def read_tokenizer(data: bytes, origin: str) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, neither cutting nor padding.

    "[SEP]" or "</s>" in a text is text: only the tokenizer's own template sets special tokens, so
    that no text can pass for the end of the query or for another text.

    Raises:
        InvalidBundle: the file is not a tokenizer, or is one that can't read every text.
    """
    try:
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        _read_specials_as_text(tokenizer)
        tokenizer.encode(_ANYTHING)
        tokenizer.encode(_ANYTHING, _ANYTHING)
    except BaseException as error:  # bare Exception, and a panic of Rust derives from less
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InvalidBundle(
            f"{origin} is not a tokenizer that reads every text: {error}"
        ) from error
    return tokenizer


def _read_specials_as_text(tokenizer: Tokenizer) -> None:
    """Special tokens that a text spells out are neither split off nor found in the vocabulary.

    The second is what a Unigram model does, whose vocabulary has them among its pieces. Set apart
    by blanks they are several pieces. That comes last, since NFKC makes "<s>" of full-width signs.
    """
    tokenizer.encode_special_tokens = True
    specials = [
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    ]
    apart = [
        normalizers.Replace(token, f"{token[0]} {token[1:-1]} {token[-1]}")
        for token in specials
        if len(token) > 2
    ]
    steps = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*steps, *apart])


def beginning(text: str, max_tokens: int) -> str:
    """As much of a text as can be read: a tokenizer looks at all of it before it cuts. A token has
    four characters or fewer on average; sixteen leave room for the strangest of texts."""
    return text[: _CHARACTERS * max_tokens]


def tokens_of(encoding: Encoding) -> Tokens:
    """What a tokenizer made of a text."""
    return Tokens(np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int8))


def padded(batch: Sequence[Tokens], inputs: frozenset[str]) -> dict[str, NDArray[np.int64]]:
    """The inputs [batch, longest] of a graph, padded with zeros.

    The mask keeps padding out of the result, so that any id does for it.
    """
    lengths = np.fromiter(map(len, batch), np.int64, len(batch))
    mask = np.arange(lengths.max()) < lengths[:, None]  # [batch, longest]

    def spread(rows: list[NDArray[np.int32]] | list[NDArray[np.int8]]) -> NDArray[np.int64]:
        array = np.zeros(mask.shape, np.int64)
        array[mask] = np.concatenate(rows)
        return array

    feeds = {
        "input_ids": spread([tokens.ids for tokens in batch]),
        "attention_mask": mask.astype(np.int64),
    }
    if "token_type_ids" in inputs:
        feeds["token_type_ids"] = spread([tokens.types for tokens in batch])
    return feeds
