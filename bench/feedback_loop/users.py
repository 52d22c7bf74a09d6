"""Users who look at a page from the top and click what they like: the position-based model.

P(click) = P(looked at | position) · P(liked | grade), as Craswell et al., "An Experimental
Comparison of Click Position-Bias Models" (2008) have it, with the curves that simulations of it are
made with: (1 / position)^η (Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with
Biased Feedback", 2017) and ε + (1 − ε) (2^grade − 1) / (2^highest − 1) (Ai et al., "Unbiased
Learning to Rank with Unbiased Propensity Estimation", 2018).
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from trainer.evaluation.perturbations import word_order

__all__ = [
    "APPLICATION",
    "Asked",
    "Clicks",
    "Traffic",
    "Visit",
    "click_chance",
    "documents",
    "phrased",
]

APPLICATION: Final = "feedback-loop"
# How much rarer a need is than the one before it: its rank to this power.
_ZIPF: Final = 0.5
_SECONDS_TO_CLICK: Final = 5


@dataclass(frozen=True)
class Clicks:
    """How likely a click is."""

    # How fast looking falls with the position. 0: all is looked at; 1: the tenth by one in ten.
    eta: float = 1.0
    # How often what is not relevant, or was never judged, is liked all the same.
    epsilon: float = 0.1
    highest: int = 3

    def looked_at(self, position: int) -> float:
        """θ of a position, from 1."""
        return float((1.0 / position) ** self.eta)

    def liked(self, grade: int) -> float:
        """γ of a grade."""
        gain = (2.0**grade - 1.0) / (2.0**self.highest - 1.0)
        return self.epsilon + (1.0 - self.epsilon) * gain

    def clicked(
        self, page: Sequence[str], grades: Mapping[str, int], chance: random.Random
    ) -> list[int]:
        """Positions, from 1, that one user clicks."""
        return [
            position
            for position, item in enumerate(page, start=1)
            if chance.random() < self.looked_at(position) * self.liked(grades.get(item, 0))
        ]


@dataclass(frozen=True)
class Asked:
    """What somebody wants, of the judgments, and the words that they type for it."""

    need: str
    text: str


def phrased(texts: Mapping[str, str], needs: Sequence[str], seed: int) -> dict[str, list[str]]:
    """What is typed for each need: the judged query, and its words in another order where it has
    several."""
    found = {}
    for need in needs:
        text = texts[need]
        found[need] = list(dict.fromkeys((text, word_order(text, _chance(seed, "words", need)))))
    return found


@dataclass(frozen=True)
class Visit:
    """One page that one user looked at."""

    number: int
    user: str
    asked: Asked
    # Whether this user belongs to those who see the shop's own order.
    control: bool


@dataclass(frozen=True)
class Traffic:
    """Who comes, and what for. The same seed and round: the same visits."""

    wordings: Mapping[str, Sequence[str]]
    seed: int = 0
    users: int = 500

    def visits(self, number: int, count: int) -> Iterator[Visit]:
        """The visits of one round. Some needs come more often than others, half of the users see
        the shop's own order, and each user always the same one."""
        chance = _chance(self.seed, "visits", number)
        needs = list(self.wordings)
        _chance(self.seed, "needs").shuffle(needs)
        often = [1.0 / rank**_ZIPF for rank in range(1, len(needs) + 1)]
        for visit, need in enumerate(chance.choices(needs, often, k=count)):
            user = chance.randrange(self.users)
            text = chance.choice(self.wordings[need])
            yield Visit(visit, f"visitor-{user}", Asked(need, text), control=user % 2 == 0)


def documents(
    visit: Visit, page: Sequence[str], clicked: Sequence[int], when: datetime, *, prefix: str
) -> Iterator[dict[str, Any]]:
    """The visit as UBI has it: the query, an impression of each item, and the clicks.

    Args:
        prefix: of the query's id.
    """
    common = {
        "application": APPLICATION,
        "client_id": f"{prefix}-{visit.user}",
        "query_id": f"{prefix}-{visit.number}",
        "user_query": visit.asked.text,
    }
    yield {**common, "timestamp": when.isoformat(), "query_response_hit_ids": list(page)}
    for position, item in enumerate(page, start=1):
        yield _event(common, "impression", item, position, when)
    for position in clicked:
        later = when + timedelta(seconds=_SECONDS_TO_CLICK * position)
        yield _event(common, "click", page[position - 1], position, later)


def click_chance(seed: int, round_: int, visit: Visit) -> random.Random:
    """What decides a visit's clicks: the same in every arm, so that arms differ by pages alone."""
    return _chance(seed, "clicks", round_, visit.number)


def _event(
    common: Mapping[str, str], action: str, item: str, position: int, when: datetime
) -> dict[str, Any]:
    attributes = {"object": {"object_id": item}, "position": {"ordinal": position}}
    return {
        **common,
        "action_name": action,
        "timestamp": when.isoformat(),
        "event_attributes": attributes,
    }


def _chance(*of: object) -> random.Random:
    """Randomness that hangs on all of these, and is the same on every machine."""
    return random.Random(hashlib.sha256(repr(of).encode()).hexdigest())
