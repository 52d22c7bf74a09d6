"""What stands between a product and the one above it, and what would close that.

A score is Σ weight × part ÷ Σ weight over the parts that a product has (`Explanation` in
ranking.proto), of which novelty takes a share where pages are diversified, so that what one part
must be, all else as it is, follows by solving for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

__all__ = ["PARTS", "Gap", "Lift", "Scored", "gap", "with_difference"]

PARTS: Final = ("relevance", "affinity", "retrieval")
NOVELTY: Final = "novelty"
# Scores are float32: what differs by less is a tie.
_TIE: Final = 1e-6
# A part of the default ranker is never more.
_MOST: Final = 1.0
# The constant of reciprocal rank fusion, as in `sidecar.ranking.blend`.
_RRF: Final = 60


@dataclass(frozen=True, slots=True)
class Scored:
    """A ranked product: its score, the parts that it has, and the weights of those (sum 1).

    Novelty, where it counts, is one of these parts: how much lies with what stands above.
    """

    id: str
    title: str
    score: float
    parts: Mapping[str, float]
    weights: Mapping[str, float]
    # The lexical score as it came in; None: the query's words did not find it.
    lexical: float | None = None

    @classmethod
    def of(cls, item: str, title: str, score: float, explained: Mapping[str, Any]) -> Self:
        """From one entry of `ext.neural_rank.results`."""
        weights = explained.get("weights") or {}
        novel = float(weights.get("diversity", 0.0)) if NOVELTY in explained else 0.0
        shares = {name: (1 - novel) * float(weights.get(name, 0.0)) for name in PARTS}
        if novel:
            shares[NOVELTY] = novel
        return cls(
            id=item,
            title=title,
            score=score,
            parts={name: float(explained[name]) for name in shares if name in explained},
            weights={name: share for name, share in shares.items() if name in explained},
            lexical=explained.get("retrieval_score"),
        )

    def pull(self, part: str) -> float:
        """What a part adds to the score."""
        return self.weights.get(part, 0.0) * self.parts.get(part, 0.0)


@dataclass(frozen=True, slots=True)
class Lift:
    """What one part would have to be for the next place, if nothing else changed."""

    part: str
    # None: the product does not have it.
    now: float | None
    # None: no value of it would do.
    needed: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Gap:
    """From a product to the one above it."""

    above: Scored
    # Of the final scores, at least 0.
    points: float
    # Of the gap, how much each part makes: positive where the one above is ahead.
    by_part: Mapping[str, float]
    lifts: tuple[Lift, ...]
    words: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


def gap(mine: Scored, above: Scored, page: Sequence[Scored], *, by_place: bool = False) -> Gap:
    """Compares a product with the one above it.

    Args:
        page: all of the page, from which the scale of lexical scores and the weights before
            division are known.
        by_place: the parts count by their places (`fusion: rrf`).
    """
    points = max(0.0, above.score - mine.score)
    counted = [*PARTS, NOVELTY] if NOVELTY in mine.parts or NOVELTY in above.parts else PARTS
    by_part = {part: above.pull(part) - mine.pull(part) for part in counted}
    scale = None if by_place else _scale(page)
    lifts = tuple(_lift(part, mine, points, page, scale) for part in PARTS)
    if by_place:
        lifts = tuple(_as_places(lift) for lift in lifts)
    if points < _TIE:
        words = (
            f"Its score is that of {above.id}: between equals the higher lexical score comes "
            "first. Anything more would do."
        )
    else:
        digits = _digits(points)
        ahead = ", ".join(
            f"{part} {'+' if value > 0 else '−'}{abs(value):.{digits}f}"
            for part, value in sorted(by_part.items(), key=lambda pair: -pair[1])
            if abs(value) >= 0.5 * 10**-digits
        )
        words = f"It needs more than {points:.{digits}f} to pass {above.id}"
        words += f", which is ahead by {ahead}." if ahead else "."
    return Gap(above, points, by_part, lifts, words)


def with_difference(value: float, difference: float, least: int = 3) -> str:
    """A number in the decimals in which it differs by so much from another; in no fewer than
    `least`."""
    return f"{value:.{_digits(difference, least)}f}"


def _digits(difference: float, least: int = 3) -> int:
    """Decimals to the second digit of a difference."""
    return max(least, 1 - math.floor(math.log10(difference))) if difference > 0 else least


def _as_places(lift: Lift) -> Lift:
    """A lift in places by one part: (k + 1) ÷ (k + place) solved for the place. Whoever it passes
    there falls by one, so that the place is enough, and a worse one may be."""
    if lift.now is None or lift.needed is None:
        return lift
    now, needed = ((_RRF + 1) / value - _RRF for value in (lift.now, lift.needed))
    place = max(1, math.ceil(needed - _TIE) - 1)
    words = f"place {place:,} by {lift.part} instead of {round(now):,} would do"
    return replace(lift, needed=(_RRF + 1) / (_RRF + place), words=words)


def _lift(
    part: str, mine: Scored, points: float, page: Sequence[Scored], scale: float | None
) -> Lift:
    now = mine.parts.get(part)
    if now is None:
        return _absent(part, mine, points, page)
    weight = mine.weights[part]
    if weight <= 0:
        return Lift(part, now, None, f"{part} can't: its weight is 0")
    if now >= _MOST - _TIE:
        return Lift(part, now, None, f"{part} can't: it is 1 already")
    needed = now + points / weight
    if needed > _MOST:
        return Lift(
            part, now, None, f"{part} alone can't: it would have to be {needed:.3f}, and 1 is most"
        )
    if points < _TIE:
        return Lift(part, now, needed, f"{part} of anything more than {now:.3f} would do")
    more = needed - now
    wanted, has = with_difference(needed, more), with_difference(now, more)
    words = f"{part} of more than {wanted} instead of {has} would do"
    if part == "retrieval" and scale is not None:
        score = with_difference(needed * scale, more * scale, 2)
        words += f": a lexical score of {score} "
        if mine.lexical is None:
            words += "(it has none)"
        else:
            words += f"instead of {with_difference(mine.lexical, more * scale, 2)}"
    return Lift(part, now, needed, words)


def _absent(part: str, mine: Scored, points: float, page: Sequence[Scored]) -> Lift:
    """A part that the product lacks would count beside the others: the mean's weights change."""
    whole = next((each for each in page if each.parts.keys() >= set(PARTS)), None)
    if whole is None:
        return Lift(part, None, None, f"{part} can't: no product of this page has one")
    weight = whole.weights[part]
    others = sum(whole.weights[name] for name in mine.parts if name in PARTS)
    # Of the mean of the parts alone: what novelty adds stays.
    share = 1 - mine.weights.get(NOVELTY, 0.0)
    if weight <= 0 or share <= 0:
        return Lift(part, None, None, f"{part} can't: its weight is 0")
    mean = (mine.score - mine.pull(NOVELTY)) / share
    needed = ((mean + points / share) * (others + weight) - mean * others) / weight
    if needed > _MOST:
        return Lift(
            part, None, None, f"{part}, which it lacks, can't alone: it would have to be "
            f"{needed:.3f}, and 1 is most",
        )  # fmt: skip
    return Lift(part, None, needed, f"{part}, which it lacks, of more than {needed:.3f} would do")


def _scale(page: Sequence[Scored]) -> float | None:
    """The lexical score that makes a retrieval of 1; None where retrieval is no such share.

    Scores ≥ 0 are divided by the largest; with negative ones, or without any, they are not.
    """
    pairs = [
        (each.parts["retrieval"], each.lexical)
        for each in page
        if each.lexical is not None and each.parts.get("retrieval", 0.0) > 0.0
    ]
    if not pairs or any(lexical <= 0 for _, lexical in pairs):
        return None
    scales = [lexical / retrieval for retrieval, lexical in pairs]
    largest = max(scales)
    return largest if largest - min(scales) <= 1e-3 * largest else None
