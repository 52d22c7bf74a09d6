"""Which language a catalogue is in, as far as an encoder is chosen by it."""

from collections.abc import Iterable
from typing import Final

from neuralrank.text.language import detect

__all__ = ["is_chinese"]

# So much of a catalogue, and no more than so many titles, may be in other languages. The number
# also ends the look at most of a catalogue that is not Chinese.
_OTHERS: Final = 0.05
_MOST_OTHERS: Final = 1000


def is_chinese(titles: Iterable[str]) -> bool:
    """Whether nearly all titles are Chinese: 19 of 20, and all but 1,000 at most. One with a
    Chinese character is (`neuralrank.text.language.detect`); those without letters don't count.
    False where there are none."""
    chinese = others = 0
    for title in titles:
        if language := detect(title):
            chinese += language == "zh"
            others += language != "zh"
        if others > _MOST_OTHERS:
            return False
    return chinese > 0 and others <= _OTHERS * (chinese + others)
