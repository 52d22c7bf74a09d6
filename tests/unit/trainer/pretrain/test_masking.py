"""Which tokens are hidden, and by what."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from trainer.pretrain.collating import masks_for
from trainer.pretrain.masking import IGNORED, Masks, masked, words
from trainer.pretrain.tokenizer import train_tokenizer

MASKS = Masks(mask=4, ordinary=np.arange(5, 1000))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["wireless mouse 无线鼠标", "red kettle 红色水壶 kettles", "uvwxyz"], 60)


def test_of_what_is_to_be_guessed_80_percent_are_masked_10_random_and_10_as_they_were() -> None:
    random = np.random.default_rng(0)
    ids = np.arange(100, 900)  # of one token a word
    counts = np.zeros(3)
    guessed = 0
    for _ in range(50):
        seen, labels = masked(ids, np.arange(800), MASKS, random)
        chosen = labels != IGNORED
        guessed += int(chosen.sum())
        assert (labels[chosen] == ids[chosen]).all()
        assert (seen[~chosen] == ids[~chosen]).all()
        counts += [
            (seen[chosen] == MASKS.mask).sum(),
            ((seen[chosen] != MASKS.mask) & (seen[chosen] != ids[chosen])).sum(),
            (seen[chosen] == ids[chosen]).sum(),
        ]
    assert guessed == 50 * 120  # 15% of 800
    np.testing.assert_allclose(counts / guessed, [0.8, 0.1, 0.1], atol=0.015)


def test_special_tokens_are_never_hidden_and_never_random_replacements(
    tokenizer: Tokenizer,
) -> None:
    masks = masks_for(tokenizer, share=0.6)
    encoding = tokenizer.encode("wireless mouse", "红色水壶 [SEP]")
    special = np.array(encoding.special_tokens_mask, bool)
    ids = np.array(encoding.ids)
    # What the library itself calls special, spelt out in a text, is special here too.
    assert (words(encoding)[special] == -1).all()
    names = {tokenizer.token_to_id(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    assert not names & set(masks.ordinary.tolist())
    for seed in range(200):
        seen, labels = masked(ids, words(encoding), masks, np.random.default_rng(seed))
        assert (labels[special] == IGNORED).all()
        assert (seen[special] == ids[special]).all()
        changed = seen[(seen != ids) & (seen != masks.mask)]
        assert not names & set(changed.tolist())


def test_a_word_is_hidden_whole_and_chinese_token_by_token(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("uvwxyz wireless 无线鼠标红色")
    word_of = words(encoding)
    sizes = np.bincount(word_of[word_of >= 0])
    first = sum(word == 0 for word in word_of)
    assert first == sizes[0]
    chinese = [
        place
        for place, token in enumerate(encoding.tokens)
        if any("一" <= c <= "鿿" for c in token)
    ]
    assert len(chinese) > 1
    assert len({int(word_of[place]) for place in chinese}) == len(chinese)
    hidden = set()
    for seed in range(100):
        _, labels = masked(
            np.array(encoding.ids), word_of, Masks(4, np.arange(5, 20)), np.random.default_rng(seed)
        )
        chosen = labels != IGNORED
        for word in np.unique(word_of[chosen]):
            assert chosen[word_of == word].all()
        hidden |= {int(word) for word in word_of[chosen]}
    assert hidden == set(range(len(sizes)))


def test_the_same_generator_hides_the_same() -> None:
    ids, word_of = np.arange(100, 140), np.arange(40)
    first, second = (masked(ids, word_of, MASKS, np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_text_of_one_word_has_something_to_guess_and_one_of_none_has_nothing() -> None:
    random = np.random.default_rng(0)
    _, labels = masked(np.array([2, 50, 3]), np.array([-1, 0, -1]), MASKS, random)
    assert labels.tolist() == [IGNORED, 50, IGNORED]
    seen, labels = masked(np.array([2, 3]), np.array([-1, -1]), MASKS, random)
    assert (seen.tolist(), labels.tolist()) == ([2, 3], [IGNORED, IGNORED])
