"""Pairs are put together exactly as the tokenizer itself would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from neuralrank.encoders.pairs import PairTemplate
from neuralrank.errors import InvalidBundle
from tests.unit.conftest import CHARACTERS, tiny_tokenizer

TEXTS = st.text(st.sampled_from([*CHARACTERS, " ", "?"]), max_size=30)


def roberta(tokenizer: Tokenizer) -> None:
    """Two separators and no types, as RoBERTa has it."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )


@pytest.mark.parametrize("style", [lambda _: None, roberta])
@given(first=TEXTS, second=TEXTS, most=st.integers(14, 40))
def test_a_pair_is_what_the_tokenizer_makes_of_both_texts(
    style: object, first: str, second: str, most: int
) -> None:
    tokenizer = tiny_tokenizer()
    style(tokenizer)  # type: ignore[operator]
    template = PairTemplate.learn(tokenizer, most)
    halves = tokenizer.encode_batch_fast([first, second], add_special_tokens=False)
    pair = template.join(*(half.ids for half in halves))
    tokenizer.enable_truncation(most)
    expected = tokenizer.encode(first, second)
    assert pair.ids.tolist() == expected.ids
    assert pair.types.tolist() == expected.type_ids


def test_a_tokenizer_that_puts_the_texts_the_other_way_round_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $B [SEP] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    with pytest.raises(InvalidBundle, match="joins pairs in a way"):
        PairTemplate.learn(tokenizer, 64)
