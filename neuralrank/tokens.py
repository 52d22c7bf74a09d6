"""Texts to token ids, and token ids to the arrays that a graph takes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from neuralrank.bundle import Bundle
from neuralrank.errors import InvalidBundle

__all__ = ["load_tokenizer", "padded"]


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, cutting at its `max_tokens`, without padding.

    Raises:
        InvalidBundle: the file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(bundle.tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise InvalidBundle(f"{bundle.tokenizer} is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(bundle.manifest.max_tokens)
    return tokenizer


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
