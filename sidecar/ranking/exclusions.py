"""What a query says it does not want ("water bottle without straw"), and what titles say of it.

Neither words nor vectors read a negation: BM25 finds more of "straw" where it is, and bi-encoders
and cross-encoders alike rank such queries hardly better than chance (Weller, Lawrie and Van Durme,
"NevIR: Negation in Neural Information Retrieval", 2024). So it is read by rule, in English and
Chinese. What is not clearly an exclusion is none: "no show socks" are what they are called.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Exclusions", "exclusions", "mentions"]

_HAN: Final = "\u4e00-\u9fff"
# At least one is in any query with an exclusion: most queries are done with here.
_MARKERS: Final = re.compile(r"\bwithout\b|\bw/o\b|\bno\b|不含|不带|不要|不加|没有", re.IGNORECASE)
# A word may have an apostrophe or a hyphen within.
_WORD: Final = r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*"
_FILLER: Final = r"(?:(?:a|an|any|the|added)\s+)?"
# After "without": a word, or several ("sulfates, parabens or silicone"), or two that end the query.
_WITHOUT: Final = re.compile(
    rf"(?<![\w-])(?:without|w/o|with\s+no)\s+{_FILLER}"
    rf"(?P<what>{_WORD}(?:(?:\s*,\s*{_WORD})*\s*,?\s+(?:or|and|nor)\s+{_WORD})?(?:\s+{_WORD}\s*$)?)",
    re.IGNORECASE,
)
# "bra no underwire". Before other words it is mostly a name of a kind: "no show socks".
_NO: Final = re.compile(rf"(?<=\w)\s+no\s+(?P<what>{_WORD})\s*$", re.IGNORECASE)
_LIST: Final = re.compile(r"\s*,?\s+(?:or|and|nor)\s+|\s*,\s*", re.IGNORECASE)
# Chinese has no spaces: what is excluded ends with the run of characters, or at 的. More than four
# characters are more than its name. 有没有 asks whether there is one.
_CHINESE: Final = re.compile(
    rf"(?:不含|不带|不要|不加|(?<!有)没有)(?P<what>[{_HAN}]{{1,4}}?)(?:的|(?![{_HAN}]))"
)

# In a title. Between a marker and what it is about are few words, of the same clause.
_NOT: Final = r"(?:without|w/o|no|non|not|zero|0|free\s+(?:of|from)|never)"
_NEAR: Final = r"[\s-]+(?:[^\W_]+[\s-]+){0,2}?"
_NOT_CHINESE: Final = rf"(?:不含|不带|不加|不要|没有|无|免|零|0|非|去)[{_HAN}]{{0,2}}?"
# A title is what it is: its first line, and not all that some sellers put there.
_TITLE: Final = 300


@dataclass(frozen=True, slots=True)
class Exclusions:
    """`what` a query does not want, in lower case, and `rest`: what it says beside that."""

    what: tuple[str, ...]
    rest: str


def exclusions(query: str) -> Exclusions:
    """What a query excludes; most exclude nothing, and their `rest` is the query itself."""
    if not _MARKERS.search(query):
        return Exclusions((), query)
    what: list[str] = []

    def take(found: re.Match[str]) -> str:
        what.extend(_LIST.split(found["what"].strip().lower()))
        return " "

    rest = query
    for pattern in (_CHINESE, _WITHOUT, _NO):
        rest = pattern.sub(take, rest)
    rest = " ".join(rest.split())
    # A query that is nothing but an exclusion, such as a title, is searched for as it stands; and
    # of a "silverware box without silverware" the title has to say silverware.
    clear = rest and not any(_patterns(one)[0].search(rest) for one in what)
    return Exclusions(tuple(dict.fromkeys(what)), rest) if what and clear else Exclusions((), query)


def mentions(texts: Iterable[str | None], what: Sequence[str]) -> npt.NDArray[np.int8]:
    """What each text's first line, a title, says of what is excluded, int8 [texts]: -1 that it is
    there, 1 that it is not, 0 nothing. One thing that is there outweighs others that are not."""
    patterns = [_patterns(one) for one in what]
    return np.fromiter((_mention(text, patterns) for text in texts), np.int8)


_Patterns = tuple[re.Pattern[str], re.Pattern[str]]


def _mention(text: str | None, patterns: Sequence[_Patterns]) -> int:
    if not text:
        return 0
    title = text.partition("\n")[0][:_TITLE]
    said = 0
    for named, denied in patterns:
        rest, denials = denied.subn(" ", title)
        if named.search(rest):
            return -1
        said = max(said, min(denials, 1))
    return said


@lru_cache(1_000)
def _patterns(what: str) -> _Patterns:
    """What finds it in a title, and what finds it denied there."""
    if re.match(f"[{_HAN}]", what):
        return re.compile(re.escape(what)), re.compile(_NOT_CHINESE + re.escape(what))
    words = what.split()
    phrase = r"[\s-]+".join(_inflected(word) for word in words)
    # Of two words either alone may be denied: "no liner" for "mesh liner".
    any_word = "|".join([phrase, *(_inflected(word) for word in words)])
    denied = (
        rf"\b{_NOT}{_NEAR}(?:{any_word})\b"
        rf"|\b(?:{any_word})(?:[\s-]+free\b|[\s-]*less\b"
        r"|[\s(]+(?:is\s+|are\s+)?(?:not\s+(?:included|required|needed)|sold\s+separately))"
    )
    return re.compile(rf"\b{phrase}\b", re.IGNORECASE), re.compile(denied, re.IGNORECASE)


def _inflected(word: str) -> str:
    """A pattern of a noun's singular and plural (Harman's S stemmer, 1991, and back)."""
    if word.endswith("ies") and len(word) > 4:
        one = word[:-3] + "y"
    elif re.search(r"(?:ss|x|ch|sh)es$", word):
        one = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3:
        one = word[:-1]
    else:
        one = word
    many = one[:-1] + "ies" if re.search(r"[^aeiou]y$", one) else one + "s"
    return "(?:" + "|".join(re.escape(form) for form in (many, one + "es", one)) + ")"
