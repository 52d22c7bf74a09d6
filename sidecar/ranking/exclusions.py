"""What titles say of what a query does not want (`neuralrank.text.exclusions`): that it is there,
or that it is not. The rules are in docs/decisions/027-exclusions.md."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from neuralrank.text.exclusions import HAN, pattern

__all__ = ["TITLE", "mentions"]

# A title is what it is: its first line, and not all that some sellers put there.
TITLE: Final = 300
# Titles that are looked at unless more are asked for, which takes some 5 µs each: the first of the
# order that came.
_MOST_TITLES: Final = 2_000

# So far from a thing is what is said of it.
_NEAR: Final = 60
_ITEM: Final = r"[^\W\d_][^\W_]*"
# "Sulfate, paraben & silicone free" is said of all three, "straw, BPA free" of the last.
_LIST: Final = rf"(?:\s*,\s*{_ITEM}){{0,3}}\s*(?:,\s*)?(?:&|/|\band\b|\bor\b)\s*{_ITEM}"
# At least one is in what denies a thing before it, or may: of most titles no more is asked.
_DENIAL: Final = re.compile("no|never|without|w/o|free|zero|0|[不无無未零免非去没沒低]")
# What denies a thing before it, and after it.
_DENIED_BEFORE: Final = re.compile(
    rf"\b(?:no|not|without|w/o)\s+(?:(?:any|added|more|a|an|the)\s+){{0,2}}"
    rf"(?:{_ITEM}\s+(?:or|nor)\s+)?$"
    rf"|\bfree\s+(?:of|from)\s+(?:{_ITEM}\s*(?:,|&|/|\band\b|\bor\b)\s*){{0,4}}$"
    r"|\b(?:non|zero)[\s-]+(?:added\s+)?$"
    r"|(?<![\d.])0(?:\.0+)?\s*(?:%|m?g)?\s*(?:added\s+)?$"
    rf"|(?:不含|不[带帶]|不加|(?<!有)[没沒]有|[不未无無零0]添加(?![剂劑]))\s*[{HAN}、]{{0,6}}$"
    r"|(?:[无無免零非去没沒]|(?<![\d.])0%?)\s*蔗?$"
)
_SAID: Final = (
    r"(?:[\s-]+free\b(?!\s+(?:gift|shipping|delivery|sample|return))"
    r"|[\s(:]+(?:is\s+|are\s+)?(?:not\s+(?:included|required|needed)|removed|sold\s+separately)\b)"
)
_DENIED_AFTER: Final = re.compile(
    rf"{_SAID}|[\s-]?less\b(?!\s+than)|\s*[0零无無未]添加(?![剂劑])|\s*[(（:：]\s*[无無](?![{HAN}])"
)
_DENIED_TOGETHER: Final = re.compile(f"{_LIST}{_SAID}")
_GIVEN: Final = re.compile(
    r"(?:\b(?:with|and|plus|includes|including)|\bw/|&|\+)\s*(?:an?\s+|\d+\s+)?$"
)
# Of these in the same clause, without "with" between, it is not clear whether they are said of the
# thing; nor of "no parabens, sulfates".
_UNCLEAR: Final = re.compile(
    r"(?:\b(?:no|not|non|never|without|zero|free (?:of|from))\b|\bw/o\b)"
    r"(?!.*\b(?:with\b|w/\s|includes\b|including\b))[^,;:()|.]*$"
    rf"|\b(?:no|without)\s+{_ITEM}(?:\s+{_ITEM})?(?:\s*,\s*{_ITEM}){{0,3}}\s*,\s*(?:(?:or|and)\s+)?$"
    rf"|[不无無未零免没沒][{HAN}、]*$|低$"
)


def mentions(
    texts: Sequence[str | None], what: Sequence[str], most: int = _MOST_TITLES
) -> npt.NDArray[np.int8]:
    """What each text's first line, a title, says of what is excluded, int8 [texts]: -1 that it is
    there, 1 that it is not, 0 nothing, or nothing clear. One thing that is there outweighs others
    that are not. Of texts after the first `most` nothing is said."""
    things = [pattern(one) for one in what]
    said = np.zeros(len(texts), np.int8)
    said[:most] = [_mention(text, things) for text in texts[:most]]
    return said


def _mention(text: str | None, things: Sequence[re.Pattern[str]]) -> int:
    if not text:
        return 0
    title = text.partition("\n")[0][:TITLE].lower()
    said = 0
    for thing in things:
        for found in thing.finditer(title):
            before = title[max(0, found.start() - _NEAR) : found.start()]
            denying = _DENIAL.search(before) is not None
            if (
                _DENIED_AFTER.match(title, found.end())
                or (_DENIED_TOGETHER.match(title, found.end()) and not _GIVEN.search(before))
                or (denying and _DENIED_BEFORE.search(before))
            ):
                said = 1
            elif found["whole"] is not None and not (denying and _UNCLEAR.search(before)):
                return -1
    return said
