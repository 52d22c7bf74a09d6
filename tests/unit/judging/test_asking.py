"""A person who answers, errs, goes back, leaves and comes again."""

from collections.abc import Callable

import pytest

from neuralrank.judging import Answered, Judgments, Pair, ask_all

PAIRS = [Pair("1", "kettle", item, [f"title of {item}"]) for item in "abc"]


def reader(*answers: str) -> Callable[[str], str]:
    """Answers in order, then the end of the input."""
    left = iter(answers)

    def read(_prompt: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return read


def run(judgments: Judgments, *answers: str) -> tuple[Answered, list[dict[str, int]], list[str]]:
    saved: list[dict[str, int]] = []
    said: list[str] = []
    done = ask_all(
        PAIRS,
        judgments,
        read=reader(*answers),
        say=said.append,
        save=lambda made: saved.append(dict(made.grades.get("1", {}))),
    )
    return done, saved, said


def test_each_answer_is_saved_at_once_and_another_run_goes_on() -> None:
    judgments = Judgments()
    done, saved, said = run(judgments, "3")
    assert done == Answered(answers=1, skipped=0, left=2)
    assert saved == [{"a": 3}]
    assert said[:2] == ["\n1 of 3   kettle", "  title of a"]
    done, saved, said = run(judgments, "0", "s")
    assert done == Answered(answers=1, skipped=1, left=0)
    assert saved == [{"a": 3, "b": 0}]
    assert said[0] == "\n1 of 2   kettle"
    assert judgments.texts == {"1": "kettle"}


def test_going_back_takes_the_answer_back() -> None:
    judgments = Judgments()
    done, saved, _ = run(judgments, "3", "b", "1", "q")
    assert done == Answered(answers=1, skipped=0, left=2)
    assert saved == [{"a": 3}, {}, {"a": 1}]


@pytest.mark.parametrize("answer", ["4", "", "yes", "b"])
def test_what_is_no_answer_is_said_and_asked_again(answer: str) -> None:
    done, saved, said = run(Judgments(), answer, "2", "q")
    assert (done.answers, saved) == (1, [{"a": 2}])
    assert any("allowed are 0 to 3" in line for line in said)


def test_ctrl_c_keeps_what_was_answered() -> None:
    def interrupt(_prompt: str) -> str:
        raise KeyboardInterrupt

    done = ask_all(PAIRS, Judgments(), read=interrupt, say=str, save=id)
    assert done == Answered(0, 0, 3)
