"""How two texts become the one sequence that a cross-encoder reads, from their tokens alone.

A tokenizer would read both texts again for every pair. Tokens of a text don't depend on the text
beside it, so that they can be kept, and a pair is put together from two rows of numbers.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from neuralrank.errors import InvalidBundle
from neuralrank.text.tokens import Ids, Tokens

__all__ = ["PairTemplate"]

_PROBES = (("a", "b"), ("a red one", "b 2"))


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """`parts`: the special tokens before, between and after the texts, int32 ids with their types,
    and the types of both texts; BERT's are `[CLS]` first `[SEP]` second `[SEP]`."""

    parts: tuple[Tokens, Tokens, Tokens]
    types: tuple[int, int]
    # Of both texts together; special tokens come on top.
    room: int

    @classmethod
    def learn(cls, tokenizer: Tokenizer, max_tokens: int) -> "PairTemplate":
        """Sees how the tokenizer joins texts; it must not be set to cut them.

        Raises:
            InvalidBundle: it joins them in a way that is no frame around two texts.
        """
        joined = tokenizer.encode(*_PROBES[0])
        ids = np.array(joined.ids, np.int32)
        types = np.array(joined.type_ids, np.int8)
        owners = np.array([-1 if owner is None else owner for owner in joined.sequence_ids])
        places = [np.flatnonzero(owners == owner) for owner in (0, 1)]
        if not all(len(place) for place in places):
            raise _unknown("a text of one letter has no token")
        begins = [int(place[0]) for place in places]
        ends = [int(place[-1]) + 1 for place in places]
        cuts = (slice(0, begins[0]), slice(ends[0], begins[1]), slice(ends[1], len(ids)))
        before, between, after = (Tokens(ids[cut], types[cut]) for cut in cuts)
        template = cls(
            (before, between, after),
            (int(types[begins[0]]), int(types[begins[1]])),
            sys.maxsize,
        )
        for pair in _PROBES:
            expected = tokenizer.encode(*pair)
            found = template.join(*(_alone(tokenizer, text) for text in pair))
            if found.ids.tolist() != expected.ids or found.types.tolist() != expected.type_ids:
                raise _unknown(f"{pair} became {expected.ids}, put together {found.ids.tolist()}")
        return replace(template, room=max_tokens - len(before) - len(between) - len(after))

    def join(self, first: Ids, second: Ids) -> Tokens:
        """The sequence of two texts; where it would be too long, the longer text is cut."""
        one, two = self._fit(len(first), len(second))
        before, between, after = self.parts
        return Tokens(
            np.concatenate([before.ids, first[:one], between.ids, second[:two], after.ids]),
            np.concatenate(
                [
                    before.types,
                    np.full(one, self.types[0], np.int8),
                    between.types,
                    np.full(two, self.types[1], np.int8),
                    after.types,
                ]
            ),
        )

    def _fit(self, first: int, second: int) -> tuple[int, int]:
        """How much of each is kept, as `tokenizers` does it: the longer is cut to what is left, and
        both to half where the shorter alone takes more than that."""
        if first + second <= self.room:
            return first, second
        short = min(first, second)
        if short <= self.room // 2:
            kept = (short, self.room - short)
        else:
            kept = (self.room // 2, self.room - self.room // 2)
        return kept if first <= second else (kept[1], kept[0])


def _alone(tokenizer: Tokenizer, text: str) -> Ids:
    """int32 [n]; without special tokens."""
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)


def _unknown(what: str) -> InvalidBundle:
    return InvalidBundle(
        f"The tokenizer joins pairs in a way that this version does not know: {what}. Use the "
        "tokenizer of a BERT-like cross-encoder."
    )
