"""Texts to token ids, and token ids to the arrays that a graph takes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, normalizers

from neuralrank.bundle import Bundle
from neuralrank.errors import InvalidBundle

__all__ = ["load_tokenizer", "padded"]


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, cutting at its `max_tokens`, without padding.

    "[SEP]" or "</s>" in a text is text: only the tokenizer's own template sets special tokens, so
    that no text can pass for the end of the query or for another text.

    Raises:
        InvalidBundle: the file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(bundle.manifest.max_tokens)
        _read_specials_as_text(tokenizer)
    except BaseException as error:  # bare Exception, and a panic of Rust derives from less
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InvalidBundle(f"{bundle.tokenizer} is not a tokenizer: {error}") from error
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


def padded(
    encodings: Sequence[Encoding], rows: NDArray[np.int64], inputs: frozenset[str]
) -> dict[str, NDArray[np.int64]]:
    """The inputs [rows, longest] of the chosen encodings, padded with zeros.

    The mask keeps padding out of the result, so that any id does for it.
    """
    longest = max(len(encodings[row]) for row in rows)
    shape = (len(rows), longest)
    feeds = {name: np.zeros(shape, np.int64) for name in inputs}
    for i, row in enumerate(rows):
        encoding = encodings[row]
        length = len(encoding)
        feeds["input_ids"][i, :length] = encoding.ids
        feeds["attention_mask"][i, :length] = 1
        if "token_type_ids" in feeds:
            feeds["token_type_ids"][i, :length] = encoding.type_ids
    return feeds
