"""Asks a person, pair by pair, and keeps each answer at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from neuralrank.judging.judgments import Judgments

__all__ = ["Answered", "Pair", "ask_all"]

_GRADES: Final = ("0", "1", "2", "3")
_PROMPT: Final = "0 no, 1 hardly, 2 well, 3 exactly; s skip, b back, q quit: "


@dataclass(frozen=True, slots=True)
class Pair:
    """An item for a query, as a person sees it."""

    query: str  # its id
    text: str
    item: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answered:
    """How far it came."""

    answers: int
    skipped: int
    left: int


def ask_all(
    pairs: Sequence[Pair],
    judgments: Judgments,
    *,
    read: Callable[[str], str],
    say: Callable[[str], None],
    save: Callable[[Judgments], None],
) -> Answered:
    """Asks for every pair that has no grade yet; the end of the input quits.

    Args:
        judgments: what is known already; grades are added to it.
        read: gives one line for a prompt.
        say: shows one line.
        save: is called after each answer, and each that was taken back.
    """
    todo = [pair for pair in pairs if pair.item not in judgments.grades.get(pair.query, {})]
    skipped: set[int] = set()
    at = answers = 0
    while at < len(todo):
        pair = todo[at]
        say(f"\n{at + 1} of {len(todo)}   {pair.text}")
        for line in pair.lines:
            say(f"  {line}")
        try:
            answer = read(_PROMPT).strip().lower()
        except (EOFError, KeyboardInterrupt):
            answer = "q"
        if answer in _GRADES:
            judgments.texts.setdefault(pair.query, pair.text)
            judgments.grades.setdefault(pair.query, {})[pair.item] = int(answer)
            save(judgments)
            answers += 1
            skipped.discard(at)
            at += 1
        elif answer == "s":
            skipped.add(at)
            at += 1
        elif answer == "b" and at:
            at -= 1
            before = todo[at]
            if judgments.grades.get(before.query, {}).pop(before.item, None) is not None:
                answers -= 1
                if not judgments.grades[before.query]:
                    del judgments.grades[before.query]
                save(judgments)
            skipped.discard(at)
        elif answer == "q":
            break
        else:
            say(f"  got {answer!r}; allowed are 0 to 3, s, b (not at the first) and q.")
    return Answered(answers, len(skipped), len(todo) - at)
