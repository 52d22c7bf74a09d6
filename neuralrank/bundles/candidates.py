"""Candidates: bundles that must show that they are better before they serve, and what was found.

Kept beside the bundles, as `<name>/<hash>.candidate.json`. A bundle without one was put there by a
person (`neuralrank models add`) and needs no proof. What is compared, and how, is the trainer's
(`trainer.gate`).
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidInput
from neuralrank.validation import first_problem

__all__ = ["Candidate", "Check", "parse_candidate"]

# waiting: not compared yet. refused: it stays a candidate. passed: it may serve. forced: a person
# said so.
Outcome = Literal["waiting", "refused", "passed", "forced"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Check(_Model):
    """One thing that was compared, such as `nDCG@10` or `nDCG@10 of language zh`."""

    name: str
    passed: bool
    # What was found and what is asked for, in words.
    words: str
    candidate: float | None = None
    serving: float | None = None
    # Of the check that must show a gain: what it was measured on, such as `7 queries`, and how
    # likely chance alone gives such a difference.
    on: str = ""
    p: float | None = None


class Candidate(_Model):
    """What is known of one."""

    format: Literal[1] = 1
    outcome: Outcome = "waiting"
    # name@hash of what served when it was compared; empty: nothing to compare with.
    against: str = ""
    # Why it is refused, or who forced it in and why.
    reason: str = "It was not compared yet."
    checks: Annotated[tuple[Check, ...], Field(max_length=1_024)] = ()
    # What it was compared on, and when.
    dataset: str = ""
    compared: AwareDatetime | None = None

    def compared_with(
        self, against: str, checks: tuple[Check, ...], dataset: str, now: datetime
    ) -> "Candidate":
        """With the outcome of a comparison: it passes if all checks do."""
        failed = [check for check in checks if not check.passed]
        return Candidate(
            outcome="refused" if failed else "passed",
            against=against,
            reason=" ".join(check.words for check in failed) or _better(checks),
            checks=checks,
            dataset=dataset,
            compared=now,
        )

    def forced(self, reason: str) -> "Candidate":
        """Put into service by a person, whatever was found."""
        return self.model_copy(update={"outcome": "forced", "reason": reason})


def _better(checks: tuple[Check, ...]) -> str:
    """That it is better, and on how much that rests."""
    for check in checks:
        if check.p is not None:
            return f"It is better: passed on {check.on}, p {check.p:.2g}."
    return "It is better."


def parse_candidate(data: bytes, origin: str) -> Candidate:
    """A candidate's record from its JSON.

    Raises:
        InvalidInput: it is not understood; the message says where it lies.
    """
    try:
        return Candidate.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(
            f"{origin}: {first_problem(error)}. Delete it and compare the candidate anew: "
            "`neuralrank models promote NAME@HASH --dataset …`."
        ) from error
