"""Pairs, their labels, and what pads them."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from neuralrank.errors import InvalidInput
from trainer.pretrain.collating import IS_NEXT, IS_OTHER, Collator, masks_for
from trainer.pretrain.masking import IGNORED
from trainer.pretrain.texts import Pair
from trainer.pretrain.tokenizer import train_tokenizer

PAIRS = [Pair(f"title {letter}", f"about {letter}") for letter in "abcdefgh"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([t for p in PAIRS for t in (p.first, p.second)] * 3, 60)


def restored(tokenizer: Tokenizer, ids: np.ndarray, labels: np.ndarray) -> tuple[str, str]:
    """Both texts of a row, with what was hidden put back."""
    whole = np.where(labels == IGNORED, ids, labels)
    separator = tokenizer.token_to_id("[SEP]")
    first, second = np.flatnonzero(whole == separator)[:2]
    return tokenizer.decode(whole[1:first].tolist()), tokenizer.decode(
        whole[first + 1 : second].tolist()
    )


def test_the_label_says_whether_the_second_text_is_the_firsts_own(tokenizer: Tokenizer) -> None:
    collate = Collator(tokenizer, masks_for(tokenizer), 32)
    counts = {IS_NEXT: 0, IS_OTHER: 0}
    for seed in range(60):
        batch = collate(PAIRS, PAIRS, np.random.default_rng(seed))
        for pair, ids, labels, following in zip(
            PAIRS, batch.input_ids.numpy(), batch.labels.numpy(), batch.next_label.tolist(),
            strict=True,
        ):  # fmt: skip
            first, second = restored(tokenizer, ids, labels)
            assert first == pair.first
            assert (second == pair.second) == (following == IS_NEXT)
            assert second in {other.second for other in PAIRS}
            counts[following] += 1
    assert 0.42 < counts[IS_OTHER] / sum(counts.values()) < 0.58


def test_a_text_alone_has_no_label_and_padding_is_neither_seen_nor_guessed(
    tokenizer: Tokenizer,
) -> None:
    collate = Collator(tokenizer, masks_for(tokenizer), 32)
    pairs = [Pair("title a"), Pair("title b title b title b", "about b")]
    batch = collate(pairs, pairs, np.random.default_rng(0))
    # There is no other second text than its own, so it keeps that.
    assert batch.next_label.tolist() == [IGNORED, IS_NEXT]
    unseen = batch.attention_mask == 0
    assert unseen.any()
    assert not batch.token_type_ids[unseen].any()
    assert (batch.labels[unseen] == IGNORED).all()
    assert batch.token_type_ids[1].sum() > 0
    assert not batch.token_type_ids[0].any()


def test_the_longer_text_is_cut_and_a_mask_in_a_title_is_text(tokenizer: Tokenizer) -> None:
    collate = Collator(tokenizer, masks_for(tokenizer), 16)
    pairs = [Pair("title a", "about b " * 30), Pair("title [MASK]", "about a")]
    batch = collate(pairs, pairs, np.random.default_rng(1))
    assert batch.input_ids.shape == (2, 16)
    mask = tokenizer.token_to_id("[MASK]")
    hidden = (batch.input_ids == mask).sum()
    assert hidden <= (batch.labels != IGNORED).sum()


def test_without_a_mask_token_nothing_can_be_hidden() -> None:
    with pytest.raises(InvalidInput, match=r"no \[MASK\]"):
        masks_for(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
