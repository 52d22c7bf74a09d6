"""What a query says it does not want: "water bottle without straw".

Neither words nor vectors read a negation: BM25 finds more of "straw" where it is, and bi-encoders
and cross-encoders alike rank such queries hardly better than chance (Weller, Lawrie and Van Durme,
"NevIR: Negation in Neural Information Retrieval", 2024). So it is read by rule, in English and
Chinese, and what is not clearly an exclusion is none (docs/decisions/027-exclusions.md).

Models are trained, measured and asked with what is left of the query. What titles say of what is
excluded is the ranking's (`sidecar.ranking.exclusions`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from neuralrank.text.cleaning import clean
from neuralrank.text.language import detect

__all__ = ["HAN", "Exclusions", "as_read", "exclusions", "pattern", "wanted_part"]

# A range of a character class.
HAN: Final = "\u4e00-\u9fff"
# Nobody types more; what does is no query for an exclusion to be read in.
_LONGEST: Final = 300
_MOST_THINGS: Final = 5

# --- Queries in English

_WORD: Final = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*")
_PART: Final = re.compile(r"[,;]|[^\s,;]+")
_SIGN_OF_HAN: Final = re.compile(f"[{HAN}]")
_FILLERS: Final = frozenset(("a", "an", "any", "the", "added", "extra"))
_JOINED: Final = frozenset(("and", "or", "nor", "&"))
# What is excluded ends before these: what follows is said of the whole.
_BOUNDS: Final = frozenset(
    [
        *(",", ";", "with", "without", "w/o", "w/", "for", "in", "on", "of", "to", "from", "by"),
        *("that", "has", "but", "size", "set", "pack"),
    ]
)
# And so do these, unless they are what is excluded: for whom it is, its size and its colour.
_OF_THE_WHOLE: Final = frozenset(
    [
        *("women", "womens", "woman", "men", "mens", "man", "girls", "girl", "boys", "boy"),
        *("kids", "kid", "children", "toddler", "toddlers", "baby", "babies", "adult", "adults"),
        *("teens", "unisex", "dogs", "cats", "small", "medium", "large", "xl", "mini", "queen"),
        *("king", "twin", "full", "white", "black", "red", "blue", "green", "pink", "grey"),
        *("gray", "brown", "beige", "yellow", "purple", "orange", "gold", "silver"),
    ]
)

# --- Queries in Chinese

# 带不带 asks whether it has one.
_NOT: Final = r"(?:(?<!含)不含有?|(?<![带帶])不[带帶]|(?<!加)不加)\s*"
# 饱和脂肪 is one thing. A blank alone joins nothing, and one before 和田玉 does not, either.
_AND: Final = r"(?<![饱飽])[和或及与與]"
_NEXT: Final = rf"(?:\s*、\s*|{_AND}\s*|\s+{_AND}\s+)(?:{_NOT})?"
_SIGN: Final = rf"(?:(?!{_AND}|的|不[含带帶加])[{HAN}])"
# Chinese has no spaces: what is excluded ends with 的, with what joins another thing to it, or with
# the run of characters if that is short or an additive (防腐剂); more are more than its name.
_CHINESE: Final = re.compile(
    rf"{_NOT}(?P<what>(?:{_SIGN}{{1,4}}?{_NEXT})*"
    rf"(?:{_SIGN}{{1,4}}?(?=的)|(?:{_SIGN}{{1,2}}?|{_SIGN}{{2}}[剂劑])(?=$|[^{HAN}]|不[含带帶加])))的?"
)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """`what` a query does not want, in lower case, and `rest`: what it says beside that. `language`
    is that of the whole, as the rest may be of another ("iPhone 不带盒"); "" where nothing is
    excluded."""

    what: tuple[str, ...]
    rest: str
    language: str = ""


def exclusions(query: str, language: str = "") -> Exclusions:
    """What a query excludes; most exclude nothing, and their `rest` is the query itself.

    Args:
        language: as the caller names it; "": told from the script. Other languages than English and
            Chinese are not read: "no" is no negation in all of them. Of these two both are read
            whichever it is: "保温杯 without straw".
    """
    nothing = Exclusions((), query)
    if len(query) > _LONGEST:
        return nothing
    language = language or detect(query)
    if language not in ("en", "zh"):
        return nothing
    english, rest = _english(query)
    chinese, rest = _chinese(rest)
    what = english + chinese
    # A query that is nothing but an exclusion, such as a title, is searched for as it stands; and
    # of a "silverware box without silverware" the title has to say silverware.
    clear = 0 < len(what) <= _MOST_THINGS and rest
    if not clear or any(pattern(one).search(rest.lower()) for one in what):
        return nothing
    return Exclusions(tuple(dict.fromkeys(what)), rest, language)


def wanted_part(query: str) -> str:
    """A query without what it excludes."""
    return exclusions(query).rest


def as_read(query: str) -> str:
    """A query as models read it where they serve: in the one normal form, without blanks around it,
    and without what it excludes."""
    return wanted_part(clean(query).strip())


def _english(query: str) -> tuple[list[str], str]:
    parts: list[str] = _PART.findall(query)
    words = [part.lower() for part in parts]
    if not {"without", "w/o", "no"} & set(words):
        return [], query
    what: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        begins = _begins(words, at)
        things, ends = _things(words, begins, first=at == 0) if begins else ([], at)
        if things:
            what += things
            at = ends
        else:
            rest.append(parts[at])
            at += 1
    return what, " ".join(rest) if what else query


def _begins(words: Sequence[str], at: int) -> int:
    """Where what is excluded begins if a marker is here; else 0."""
    alternative = at > 0 and words[at - 1] in (*_JOINED, "/")
    if words[at] in ("without", "w/o") and not (alternative and "with" in words[:at]):
        begins = at + 1
    elif words[at : at + 2] == ["with", "no"]:
        begins = at + 2
    else:
        return 0
    while begins < len(words) and words[begins] in _FILLERS:
        begins += 1
    return begins


def _things(words: Sequence[str], begins: int, *, first: bool) -> tuple[list[str], int]:
    """The things that are excluded from a place on, and where what is wanted goes on.

    Args:
        first: whether nothing stands before it, so that what is wanted comes after.
    """
    run = _run(words, begins)
    if not run:
        return [], begins
    ends = begins + len(run)
    if len(run) > 1 and first:
        return [run[0]], begins + 1
    if len(run) == 2:
        return [" ".join(run)], ends
    if len(run) > 2:
        # Which of them are its name can't be told: titles are looked at for the first, and models
        # are not to look for the second as if it were wanted.
        return [run[0]], begins + 2
    things, joined = list(run), False
    taken = ends
    while ends < len(words) and words[ends] in (",", *_JOINED):
        joined = joined or words[ends] in _JOINED
        after = ends + 1
        if words[ends] == "," and after < len(words) and words[after] in _JOINED:
            joined, after = True, after + 1
        more = _run(words, after)
        # "nuts and gluten free", "sugar and high fiber": that is wanted.
        if len(more) != 1:
            break
        things += more
        ends = after + 1
        taken = ends if joined else taken
    # Commas alone join nothing: "tea without caffeine, green".
    return (things, taken) if joined else ([run[0]], taken)


def _run(words: Sequence[str], begins: int) -> list[str]:
    """The words from a place to where a phrase ends. A thing is named in one script: "without straw
    大号" is a large one."""
    run: list[str] = []
    for word in words[begins:]:
        ends = word in _BOUNDS or word in _JOINED or not _WORD.fullmatch(word)
        if ends or (run and (word in _OF_THE_WHOLE or _is_han(word) != _is_han(run[0]))):
            break
        run.append(word)
    return run


def _is_han(word: str) -> bool:
    return _SIGN_OF_HAN.search(word) is not None


def _chinese(query: str) -> tuple[list[str], str]:
    what = [thing for found in _CHINESE.finditer(query) for thing in re.split(_NEXT, found["what"])]
    return what, " ".join(_CHINESE.sub(" ", query).split()) if what else query


@lru_cache(256)
def pattern(what: str) -> re.Pattern[str]:
    """What finds a thing in a title in lower case. Of two words either may be denied alone ("no
    liner" for "mesh liner"); only both are the `whole`. One Chinese character may be part of
    another word (盖 of 全覆盖); it is the `whole` where none is before it, or one that gives it."""
    if re.fullmatch(f"[{HAN}]", what):
        return re.compile(rf"(?:(?<![{HAN}])|(?<=[带帶有含加配送附]))(?P<whole>{what})|{what}")
    if re.match(f"[{HAN}]", what):
        return re.compile(f"(?P<whole>{re.escape(what)})")
    words = [_inflected(word) for word in what.split()]
    whole = r"[\s-]+".join(words)
    # "stemless" has it, too, and is denied by what comes after.
    return re.compile(rf"\b(?:(?P<whole>{whole})|{'|'.join(words)})(?=\b|less\b)")


def _inflected(word: str) -> str:
    """A pattern of a noun's singular and plural."""
    one = _singular(word)
    if re.search(r"[^aeiou]y$", one):
        return f"{re.escape(one[:-1])}(?:y|ies)"
    return f"{re.escape(one)}(?:es|s)?"


def _singular(word: str) -> str:
    """Harman's S stemmer (1991)."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:ss|x|ch|sh)es$", word):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3:
        return word[:-1]
    return word
