"""The same query, written in another way: what a user would still want the same page for.

Each function gives the query changed, or as it was where there is nothing to change. What chance
decides comes from the generator that is given.
"""

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from neuralrank.errors import Unsupported
from neuralrank.extras import install

__all__ = ["PERTURBATIONS", "other_script", "other_width", "typo", "word_order"]

Perturbation = Callable[[str, random.Random], str]

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_HAN: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
# ASCII signs and the ideographic blank, by their wide forms.
_WIDE: Final = {0x20: 0x3000, **{code: code + 0xFEE0 for code in range(0x21, 0x7F)}}
_NARROW: Final = {wide: narrow for narrow, wide in _WIDE.items()}


def typo(text: str, chance: random.Random) -> str:
    """One slip in one word of three letters or more: two letters swapped, one left out, one doubled
    or, of Latin letters, one replaced. In Chinese, whose words are not set apart, one in a run of
    characters.

    Zhuang and Zuccon, "Dealing with Typos for BERT-based Passage Retrieval and Ranking" (2021).
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = chance.choice(words)
    letters = word[0]
    slips = [_swapped, _left_out, _doubled]
    if letters.isascii():
        slips.append(_replaced)
    changed = chance.choice(slips)(letters, chance)
    return text[: word.start()] + changed + text[word.end() :]


def word_order(text: str, chance: random.Random) -> str:
    """The words between blanks in another order."""
    words = text.split()
    if len(set(words)) < 2:
        return text
    shuffled = list(words)
    while shuffled == words:
        chance.shuffle(shuffled)
    return " ".join(shuffled)


def other_script(text: str, _: random.Random) -> str:
    """Simplified Chinese in traditional characters; what has none to change, the other way round.

    Raises:
        Unsupported: OpenCC is not installed.
    """
    if not _HAN.search(text):
        return text
    traditional = str(_converter("s2t").convert(text))
    return traditional if traditional != text else str(_converter("t2s").convert(text))


def other_width(text: str, _: random.Random) -> str:
    """Half-width signs in full width, as a Chinese keyboard writes them; where any is wide already,
    the other way round."""
    if any(ord(sign) in _NARROW for sign in text):
        return text.translate(_NARROW)
    return text.translate(_WIDE)


PERTURBATIONS: Final[Mapping[str, Perturbation]] = {
    "typo": typo,
    "word order": word_order,
    "traditional/simplified": other_script,
    "full/half width": other_width,
}


@cache
def _converter(way: str) -> Any:
    try:
        import opencc
    except ImportError as error:
        raise Unsupported(
            f"Converting between Chinese scripts needs OpenCC: {install('train')}."
        ) from error
    return opencc.OpenCC(way)


def _swapped(word: str, chance: random.Random) -> str:
    places = [n for n in range(len(word) - 1) if word[n] != word[n + 1]]
    if not places:
        return _left_out(word, chance)
    at = chance.choice(places)
    return f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}"


def _left_out(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _doubled(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word))
    return word[: at + 1] + word[at:]


def _replaced(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word))
    other = chance.choice([letter for letter in _LETTERS if letter != word[at].lower()])
    return word[:at] + other + word[at + 1 :]
