"""What pages of an experiment say, with users as the unit, since users were dealt and not pages.

A/B: each user has one value of each measure, an average over their pages; the arms' means are
compared by Welch's t-test. Kohavi, Tang and Xu, "Trustworthy Online Controlled Experiments" (2020),
also for the check of the halves. Interleaving: each user prefers the arm of which they took more
items; a sign test over the users who prefer one. Chapelle et al., "Large-Scale Validation and
Analysis of Interleaved Search Evaluation" (2012).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuralrank.experiments.attributes import ARMS
from neuralrank.experiments.pages import ACTIONS, Page
from neuralrank.experiments.size import scipy_stats, users_for_difference, users_for_preference

__all__ = ["Compared", "Difference", "Preference", "Preferred", "Tally"]

# Below this, halves that differ are no accident.
_LOST = 0.001
CTR = "ctr"
_CLICKS = "clicks"


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure in both arms: means over users of what one page brings, None without any.

    `p` is two-sided, None where there is too little to tell; `users_needed`, in each arm, to tell a
    difference as large as this one with a power of 80 %, None where there is none.
    """

    measure: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    users_needed: int | None


@dataclass(frozen=True, slots=True)
class Compared:
    """An A/B test. `halves_p` is how often chance alone would make halves as unequal."""

    users: tuple[int, int]
    pages: tuple[int, int]
    halves_p: float
    differences: tuple[Difference, ...]

    @property
    def is_lopsided(self) -> bool:
        """Pages of one arm are lost: what is compared is not the same kind of users."""
        return self.halves_p < _LOST


@dataclass(frozen=True, slots=True)
class Preference:
    """One action on interleaved pages: items that were taken of each arm, and users who took more
    of one. `share` of them prefer B; the rest as in `Difference`, `users_needed` being those who
    prefer one."""

    measure: str
    a: int
    b: int
    prefer_a: int
    prefer_b: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None
    users_needed: int | None


@dataclass(frozen=True, slots=True)
class Preferred:
    """Interleaving."""

    users: int
    pages: int
    preferences: tuple[Preference, ...]


@dataclass(slots=True)
class _User:
    pages: int = 0
    clicked: int = 0
    done: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, page: Page) -> None:
        self.pages += 1
        self.clicked += any(action == _CLICKS for action, _ in page.done)
        self.done.update(page.done)


class Tally:
    """Counts over pages. Memory grows with the users."""

    def __init__(self) -> None:
        self._by_arm: dict[str, dict[str, _User]] = {"": {}, "A": {}, "B": {}}

    def add(self, pages: Iterable[Page]) -> None:
        for page in pages:
            self._by_arm[page.arm].setdefault(page.user, _User()).add(page)

    @property
    def turncoats(self) -> int:
        """Users who had pages of both arms. They take no part in a comparison."""
        return len(self._by_arm["A"].keys() & self._by_arm["B"].keys())

    def compared(self) -> Compared | None:
        """The A/B test; None if no page was of an arm.

        Raises:
            Unsupported: scipy is not installed.
        """
        a, b = self._by_arm["A"], self._by_arm["B"]
        both = a.keys() & b.keys()
        arms = [[arm[user] for user in arm if user not in both] for arm in (a, b)]
        if not any(arms):
            return None
        users = (len(arms[0]), len(arms[1]))
        halves = scipy_stats().binomtest(users[0], sum(users)).pvalue
        differences = [
            _difference(
                measure,
                *(_values(measure, arm, name) for name, arm in zip(ARMS, arms, strict=True)),
            )
            for measure in (CTR, *ACTIONS.values())
        ]
        pages = tuple(sum(user.pages for user in arm) for arm in arms)
        return Compared(users, (pages[0], pages[1]), float(halves), tuple(differences))

    def preferred(self) -> Preferred | None:
        """What interleaved pages say; None if there is none.

        Raises:
            Unsupported: scipy is not installed.
        """
        users = self._by_arm[""].values()
        if not users:
            return None
        return Preferred(
            len(users),
            sum(user.pages for user in users),
            tuple(_preference(action, list(users)) for action in ACTIONS.values()),
        )


def _values(measure: str, users: Sequence[_User], arm: str) -> NDArray[np.float64]:
    """float64 [users]: what a page of theirs brings on average."""
    counts = [user.clicked if measure == CTR else user.done[measure, arm] for user in users]
    pages = np.array([user.pages for user in users], np.float64)
    return np.array(counts, np.float64) / pages


def _difference(measure: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    mean_a, mean_b = (float(arm.mean()) if len(arm) else None for arm in (a, b))
    difference = None if mean_a is None or mean_b is None else mean_b - mean_a
    low = high = p = needed = None
    if min(len(a), len(b)) >= 2 and np.ptp(a) + np.ptp(b) > 0:
        test = scipy_stats().ttest_ind(b, a, equal_var=False)
        interval = test.confidence_interval(0.95)
        low, high, p = float(interval.low), float(interval.high), float(test.pvalue)
        if difference:
            needed = users_for_difference(difference, a.var(ddof=1), b.var(ddof=1))
    return Difference(measure, mean_a, mean_b, difference, low, high, p, needed)


def _preference(action: str, users: Sequence[_User]) -> Preference:
    taken = [(user.done[action, "A"], user.done[action, "B"]) for user in users]
    a, b = (sum(counts) for counts in zip(*taken, strict=True))
    prefer_a, prefer_b = sum(x > y for x, y in taken), sum(y > x for x, y in taken)
    decided = prefer_a + prefer_b
    if not decided:
        return Preference(action, a, b, 0, 0, None, None, None, None, None)
    test = scipy_stats().binomtest(prefer_b, decided)
    interval = test.proportion_ci(0.95, method="wilson")
    share = prefer_b / decided
    needed = users_for_preference(share) if share != 0.5 else None
    return Preference(
        action, a, b, prefer_a, prefer_b, share, float(interval.low), float(interval.high),
        float(test.pvalue), needed,
    )  # fmt: skip
