"""What `neuralrank explain` prints of where a part comes from."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from neuralrank.cli.explained import show
from neuralrank.standing import Nearness, Place, Scored, Why

NUMBERS = {"affinity": 0.13, "weights": {"affinity": 1.0}}


@pytest.mark.parametrize(
    ("more", "printed"),
    [
        ({"user_similarity": 0.894, "because_of": ["C"]}, "cosine to the user 0.894; because of C"),
        # It has no vector to be compared by.
        ({"because_of": []}, "not known, for lack of a vector: the mean of the others'"),
    ],
)
def test_it_is_said_whether_the_user_was_compared(more: dict[str, object], printed: str) -> None:
    assert printed in said(parts={**NUMBERS, **more})


@pytest.mark.parametrize(
    ("below", "printed"),
    [(0.05, "leads Q by 0.080."), (0.12998, "leads Q by 0.000020."), (0.13, "above it.\n")],
)
def test_a_lead_is_said_in_digits_that_show_it(below: float, printed: str) -> None:
    assert printed in said(below=Scored.of("Q", "", below, NUMBERS))


def said(**more: Any) -> str:
    nowhere = Place(None, 0, None, None)
    why = Why(
        query="phone", user="A", index="shop", id="P", title="", state="ranked", position=1,
        candidates=1, window=100, k=100, scored=Scored.of("P", "", 0.13, NUMBERS),
        parts=NUMBERS, lexical_place=nowhere, lexical=None,
        vector=Nearness(None, None, None, None, "no vector"), meetings=(), events=(), dropped=None,
        gap=None, below=None, lacks=(), degraded=(),
    )  # fmt: skip
    out = io.StringIO()
    show(Console(file=out, width=200), replace(why, **more))
    return out.getvalue()
