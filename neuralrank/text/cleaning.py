"""Text as every model reads it: one normal form, from whichever door it came in.

Products at index time, items of an index, candidates and queries all pass here, so that the same
words are the same tokens wherever they were written.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, starmap
from typing import Final

import numpy as np

__all__ = ["beginning", "beginnings", "clean", "normal_form"]

# Controls that separate words, other than the line break, which stays.
_BLANKS: Final = re.compile("[\t\v\f\r\x1c-\x1f\x85\u2028\u2029]")
# Other controls, and format characters that are seen nowhere but change what is read: soft hyphens,
# zero-width signs, marks that turn the direction of writing, tags. Joiners (U+200C, U+200D) are
# spelling in some scripts and stay.
_REMOVED: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


# Where combining marks are; to look for them in all of Unicode would take a sixth of a second.
_BLOCKS: Final = (
    (0x300, 0x3100), (0xA66F, 0xAC00), (0xFB1E, 0xFE30), (0x10000, 0x12000), (0x16A00, 0x17000),
    (0x1BC00, 0x1BD00), (0x1D100, 0x1D300), (0x1E000, 0x1EA00),
)  # fmt: skip
# What a normal form sorts, in a time that grows with the square of how many are in a row: marks on
# the character before. The last five are none themselves, and stand for some.
_MARKS: Final = frozenset(
    filter(unicodedata.combining, map(chr, chain.from_iterable(starmap(range, _BLOCKS))))
) | frozenset("\u0f73\u0f75\u0f81\uff9e\uff9f")
_RUN: Final = re.compile(f"[{''.join(sorted(_MARKS))}]+")
# Unicode's own bound (UAX #15, "Stream-Safe Text Format"): no language has as many on a character.
_MOST_MARKS: Final = 30
# Characters that are cleaned for each one that is kept. Cleaning makes three of one where letters
# are written in pieces (Korean syllables); controls and invisible signs are rarely most of a text.
_ROOM: Final = 4
# More than a character and its marks are when they are taken apart.
_PIECE: Final = 64


def clean(text: str) -> str:
    """The text in Unicode's normal form NFKC (full-width "ＡＢＣ" becomes "ABC"), without control
    characters; those that separate words become blanks. Of more than 30 combining marks in a row
    the first 30 stay. Cleaning twice changes nothing more. It takes a time in proportion to the
    text's length, whatever the text.

    It may grow: some signs stand for several ("㎏", at most 18).
    """
    # Nearly every text is clean; to see that takes a tenth of the time of making it so.
    if not text.replace("\n", " ").isprintable():
        text = _REMOVED.sub("", _BLANKS.sub(" ", text))
    return text if text.isascii() else normal_form(text)


def beginning(text: str, characters: int) -> str:
    """The first `characters` of a text as `clean` makes it, for the price of these alone. It is
    shorter where what is removed is most of the text."""
    # What comes after may change the last character, with its marks. Nearly every text is clean.
    head = text[: characters + _PIECE]
    if head.replace("\n", " ").isprintable() and (
        head.isascii() or (_short_runs(head) is head and unicodedata.is_normalized("NFKC", head))
    ):
        return head[:characters]
    room = _ROOM * characters
    # In pieces: a sign may stand for eighteen, and what it stands for may be more than is kept.
    piece = max(_PIECE, characters // 16)
    pieces: list[str] = []
    size = 0
    for place in range(0, min(len(text), room), piece):
        pieces.append(clean(text[place : min(place + piece, room)]))
        size += len(pieces[-1])
        if size >= characters + _PIECE:
            break
    # The normal form of texts one after the other is that of their normal forms.
    return normal_form("".join(pieces))[:characters]


def beginnings(texts: Sequence[str], characters: int) -> list[str]:
    """`beginning` of each of many texts. Those in ASCII are looked at as one, which takes a fifth
    of the time where all of them are clean."""
    heads = [text[: characters + _PIECE] for text in texts]
    plain = _is_plain("\n".join(filter(str.isascii, heads)))
    return [
        head[:characters] if plain and head.isascii() else beginning(text, characters)
        for head, text in zip(heads, texts, strict=True)
    ]


def _is_plain(text: str) -> bool:
    """Whether ASCII text is clean."""
    signs = np.frombuffer(text.replace("\n", " ").encode(), np.uint8)
    return signs.size == 0 or bool(signs.min() >= ord(" ") and signs.max() <= ord("~"))


def normal_form(text: str) -> str:
    """The text in NFKC, of which no run of combining marks is longer than 30."""
    normal = unicodedata.normalize("NFKC", _short_runs(text))
    # One mark may have become two.
    return normal if normal is text else _short_runs(normal)


def _short_runs(text: str) -> str:
    """The text with the first 30 of each run of combining marks."""
    # A run that is too long is where one of these is, wherever it begins: to look at so few of the
    # characters takes less time than to look at all of them in any other way.
    step = _MOST_MARKS + 1
    if len(text) <= _MOST_MARKS or _MARKS.isdisjoint(text[_MOST_MARKS::step]):
        return text
    kept: list[str] = []
    done = 0
    for place in range(_MOST_MARKS, len(text), step):
        if place < done or text[place] not in _MARKS:
            continue
        begin = place
        while begin > done and text[begin - 1] in _MARKS:
            begin -= 1
        # Of nearly every run this is past its end, and nothing else has to be looked at.
        last = begin + _MOST_MARKS
        if text[last : last + 1] not in _MARKS:
            continue
        run = _RUN.match(text, place)
        if run and run.end() > last:
            kept.append(text[done:last])
            done = run.end()
    return "".join((*kept, text[done:])) if kept else text
