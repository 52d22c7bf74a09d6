"""From pairs of texts to what the model reads: joined, cut, masked, with both kinds of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from neuralrank.errors import InvalidInput
from trainer.pretrain.masking import IGNORED, Masks, masked, padded, words
from trainer.pretrain.texts import Pair

__all__ = ["Batch", "Collator", "masks_for"]

# As `BertForPreTraining` has them.
IS_NEXT: Final = 0
IS_OTHER: Final = 1
_SWAPPED: Final = 0.5


@dataclass(frozen=True)
class Batch:
    """int64 [batch, length] each, but `next_label` [batch]. `labels` is `IGNORED` (-100) where
    nothing is to be guessed, `next_label` where there is one text only."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    next_label: Tensor

    def to(self, device: torch.device, **_: object) -> "Batch":
        """The same on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class Collator:
    """Makes batches. All randomness comes from the generator that a call is given."""

    def __init__(self, tokenizer: Tokenizer, masks: Masks, max_tokens: int) -> None:
        """
        Args:
            max_tokens: the longer text of a pair is cut until both fit.
        """
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        # "[MASK]" in a title is text.
        self._tokenizer.encode_special_tokens = True
        self._masks = masks

    def __call__(
        self, pairs: Sequence[Pair], others: Sequence[Pair], random: np.random.Generator
    ) -> Batch:
        """Half of the pairs keep their second text, the other half get another's.

        Args:
            others: where those come from; one with the same text is not another.
        """
        texts, following = [], np.full(len(pairs), IGNORED, np.int64)
        for row, pair in enumerate(pairs):
            second, label = self._second(pair, others, random)
            texts.append((pair.first, second) if second else pair.first)
            following[row] = label
        return self._batch(self._tokenizer.encode_batch(texts), following, random)

    def _second(
        self, pair: Pair, others: Sequence[Pair], random: np.random.Generator
    ) -> tuple[str, int]:
        if not pair.second:
            return "", IGNORED
        if random.random() >= _SWAPPED:
            return pair.second, IS_NEXT
        # A few tries: in a catalogue many products may share one description.
        for place in random.integers(0, len(others), 10).tolist():
            other = others[place].second
            if other and other != pair.second:
                return other, IS_OTHER
        return pair.second, IS_NEXT

    def _batch(
        self,
        encodings: Sequence[Encoding],
        following: NDArray[np.int64],
        random: np.random.Generator,
    ) -> Batch:
        rows = [
            masked(np.array(encoding.ids, np.int64), words(encoding), self._masks, random)
            for encoding in encodings
        ]
        lengths = np.array([len(encoding) for encoding in encodings])
        mask = np.arange(lengths.max()) < lengths[:, None]
        types = padded([np.array(encoding.type_ids, np.int64) for encoding in encodings], 0)
        return Batch(
            input_ids=torch.from_numpy(padded([seen for seen, _ in rows], 0)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            token_type_ids=torch.from_numpy(types),
            labels=torch.from_numpy(padded([labels for _, labels in rows], IGNORED)),
            next_label=torch.from_numpy(following),
        )


def masks_for(tokenizer: Tokenizer, share: float = 0.15) -> Masks:
    """What masking needs of a tokenizer.

    Raises:
        InvalidInput: it has no token `[MASK]` or `<mask>`.
    """
    for name in ("[MASK]", "<mask>"):
        if (mask := tokenizer.token_to_id(name)) is not None:
            break
    else:
        raise InvalidInput(
            "The tokenizer has no [MASK] and no <mask>, so that nothing can be hidden."
        )
    special = {
        token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
    }
    known = tokenizer.get_vocab(with_added_tokens=True)
    # A Unigram vocabulary has its unknown token among its pieces.
    special |= {mask, *(known[name] for name in ("[UNK]", "<unk>") if name in known)}
    ordinary = sorted(set(known.values()) - special)
    return Masks(mask, np.array(ordinary, np.int64), share)
