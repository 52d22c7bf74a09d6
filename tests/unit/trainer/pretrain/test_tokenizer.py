"""A vocabulary trained on a catalogue in both languages: titles of the examples."""

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from neuralrank.errors import InvalidInput
from trainer.pretrain.tokenizer import MASK, UNKNOWN, train_tokenizer

EXAMPLES = Path(__file__).parents[4] / "examples"
SIZE = 2_000


def titles(name: str, count: int) -> list[str]:
    with gzip.open(EXAMPLES / name / "catalogue.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["title"] for line in islice(lines, count)]


TITLES = [*titles("goods_zh", 400), *titles("esci", 400)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TITLES, SIZE)


def test_words_of_both_languages_become_tokens(tokenizer: Tokenizer) -> None:
    assert 1_000 < tokenizer.get_vocab_size() <= SIZE
    vocabulary = tokenizer.get_vocab()
    assert sum(len(token) > 1 and "一" <= token[-1] <= "鿿" for token in vocabulary) > 100
    assert sum(token[0] == "▁" and token[1:].isascii() for token in vocabulary) > 100
    assert "▁case" in tokenizer.encode("phone case").tokens
    unknown = tokenizer.token_to_id(UNKNOWN)
    encodings = tokenizer.encode_batch(TITLES)
    assert not any(unknown in encoding.ids for encoding in encodings)
    # WordPiece as BERT has it needs as many tokens as Chinese has characters.
    assert sum(map(len, encodings)) < 0.5 * sum(map(len, TITLES))


def test_the_same_text_gives_the_same_vocabulary(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(TITLES, SIZE).to_str() == tokenizer.to_str()


def test_case_and_width_mean_nothing_and_numbers_stand_apart(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("ＰＨＯＮＥ　Case").ids == tokenizer.encode("phone case").ids
    tokens = [token.strip("▁") for token in tokenizer.encode("a 16gb b").tokens]
    assert all(token.isdigit() for token in tokens if any(c.isdigit() for c in token))


def test_pairs_have_two_segments_and_unknown_characters_one_token(tokenizer: Tokenizer) -> None:
    pair = tokenizer.encode("phone case", "奶粉")
    assert pair.tokens[0] == "[CLS]"
    assert pair.tokens.count("[SEP]") == 2
    first = pair.tokens.index("[SEP]")
    assert pair.type_ids == [0] * (first + 1) + [1] * (len(pair) - first - 1)
    assert tokenizer.token_to_id(UNKNOWN) in tokenizer.encode("🚲").ids
    assert tokenizer.token_to_id(MASK) is not None


def test_without_text_there_is_no_vocabulary() -> None:
    with pytest.raises(InvalidInput, match="no text"):
        train_tokenizer(["", "  "], 100)
