"""Queries that somebody could have asked for a product, made from the product's own words.

Nogueira, Yang, Lin and Cho, "Document Expansion by Query Prediction" (2019) let a model predict
them; words of title, category, brand and color in the patterns of shop queries do without one.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from trainer.recipes.small_reranker.goods import Good

__all__ = ["Cut", "make_query", "pieces_of"]

# Cuts a text into words; of Chinese, into pieces that are mostly words.
Cut = Callable[[str], list[str]]

# What a Chinese title is cut at before its characters are.
_RUN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.*/+-]*|[\u4e00-\u9fff]+")
# The first clause of a title says what it is: "Kindle Paperwhite – Now Waterproof, Ad-Supported".
_CLAUSE: Final = re.compile(
    r"\s*(?:[,;|(\[/，。；｜（【]|\s[-–—]\s|\s(?:with|for|by)\s)", re.IGNORECASE
)
_PUNCTUATION: Final = " \t\n.,;:!?\"'()[]{}|/\\&+*~【】（），。；：、“”‘’《》"
_SMALL_WORDS: Final = frozenset(
    ["a", "an", "and", "the", "of", "in", "on", "to", "with", "for", "by", "from", "or", "at", "is"]
)
# How often a query has a letter too few.
_TYPO: Final = 0.04
_SHORTEST: Final = 2
_LONGEST: Final = 60


def make_query(good: Good, cut: Cut, random: np.random.Generator) -> str:
    """One query, in lower case as people type; "" where the product has no words for one."""
    words = _words(good.title, cut)
    head = _words(_CLAUSE.split(good.title, maxsplit=1)[0], cut) or words
    if not words:
        return ""
    number = int(random.integers(0, 10))
    if number <= 2:  # what it is: the last words of the first clause
        asked = head[-int(random.integers(1, 4)) :]
    elif number <= 4:
        asked = _span(words[:14], int(random.integers(1, 5)), random)
    elif number <= 6:
        asked = _some(words[:20], int(random.integers(2, 5)), random)
    elif number == 7:
        first = _words(good.brand, cut) or _words(good.category, cut)
        asked = [*first[:3], *_span(head, int(random.integers(1, 3)), random)]
    elif number == 8:
        first = _words(good.color, cut)[:2] or _words(good.category, cut)[:4]
        asked = [*first, *head[-int(random.integers(0, 3)) :]] if first else head[-2:]
    else:  # a size or a model number with what it is
        marked = [word for word in words if any(letter.isdigit() for letter in word)]
        asked = [*head[-2:], *_some(marked, 1, random)]
        asked = asked if random.random() < 0.5 else asked[::-1]
    text = _joined(list(dict.fromkeys(asked)))[:_LONGEST].strip().lower()
    if len(text) < _SHORTEST:
        return ""
    return _mistyped(text, random) if random.random() < _TYPO else text


def pieces_of(tokenizer: Tokenizer) -> Cut:
    """Words of a Chinese text, roughly: the pieces of a Unigram vocabulary, and single characters
    two by two. Model numbers and sizes stay whole."""

    def cut(text: str) -> list[str]:
        words: list[str] = []
        for run in _RUN.findall(text):
            if run[0].isascii():
                words.append(run)
                continue
            single = False
            for piece in tokenizer.encode(run, add_special_tokens=False).tokens:
                piece = piece.strip("▁")
                if single and len(piece) == 1:
                    words[-1] += piece
                    single = False
                elif piece:
                    words.append(piece)
                    single = len(piece) == 1
        return words

    return cut


def _words(text: str, cut: Cut) -> list[str]:
    words = [word.strip(_PUNCTUATION) for word in cut(text)]
    return [word for word in words if word and word.lower() not in _SMALL_WORDS]


def _span(words: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    start = int(random.integers(0, max(1, len(words) - count + 1)))
    return list(words[start : start + count])


def _some(words: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Some words in their order."""
    places = sorted(random.permutation(len(words))[:count].tolist())
    return [words[place] for place in places]


def _joined(words: Sequence[str]) -> str:
    """With blanks but between words of a script that has none."""
    text = ""
    for word in words:
        spaced = text and (text[-1].isascii() or word[0].isascii())
        text += f" {word}" if spaced else word
    return text


def _mistyped(text: str, random: np.random.Generator) -> str:
    place = int(random.integers(0, max(1, len(text))))
    return text[:place] + text[place + 1 :] if len(text) > 4 else text
