"""Everything about one product in one ranking, and what it lacks where it is not in it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from neuralrank.standing.analysis import Meeting
from neuralrank.standing.gap import Gap, Scored
from neuralrank.standing.probes import Place
from neuralrank.standing.terms import Lexical

__all__ = ["Nearness", "State", "Why", "cosine_of", "lacks"]

State = Literal["ranked", "dropped", "not_a_candidate", "not_reranked"]
# `space_type`s whose script score is a function of the cosine alone, for vectors of length 1.
_INNER_PRODUCT: Final = "innerproduct"
_COSINE: Final = "cosinesimil"


@dataclass(frozen=True, slots=True)
class Nearness:
    """A product's vector against the query's."""

    # In the order of all vectors of the index, compared one by one. None: there is no vector.
    place: Place | None
    cosine: float | None
    # In [0, 1], as the manifest of the encoder says. None: it is not in the registry.
    calibrated: float | None
    # The cosine of the k-th.
    last_cosine: float | None
    # Why there is none.
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a product stands where it stands."""

    query: str
    user: str
    index: str
    id: str
    title: str
    # "not_reranked": OpenSearch's own order.
    state: State
    # From 1, in the final order; None: not in it.
    position: int | None
    # How many candidates were ranked, the dropped ones among them.
    candidates: int
    window: int
    k: int
    # Its score and parts; None: not ranked.
    scored: Scored | None
    # All that `ext.neural_rank.results` says of it.
    parts: Mapping[str, Any]
    lexical_place: Place
    # None: no word of the query matches it.
    lexical: Lexical | None
    vector: Nearness
    meetings: tuple[Meeting, ...]
    # What the user did with the products that speak most for it.
    events: tuple[Mapping[str, Any], ...]
    # Of a dropped one: reason and detail.
    dropped: Mapping[str, Any] | None
    # None: it is first, or not in the order.
    gap: Gap | None
    # The one that follows it.
    below: Scored | None
    # In words, where it is no candidate.
    lacks: tuple[str, ...]
    degraded: tuple[Mapping[str, Any], ...]

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def lacks(
    words: Place, vector: Nearness, meetings: Sequence[Meeting], window: int, k: int
) -> tuple[str, ...]:
    """Why a product is no candidate: what each of the two legs of recall wanted of it.

    Args:
        k: how many neighbours the vector leg brings; 0: the pipeline has no vector leg.
    """
    return (_by_words(words, meetings, window), _by_vector(vector, k))


def _by_words(words: Place, meetings: Sequence[Meeting], window: int) -> str:
    if words.position is None:
        met = {token for each in meetings for token in each.met}
        missed = {token for each in meetings for token in each.missed} - met
        if met:
            return (
                "words: the lexical query asks for more than it has: of the query's tokens, "
                f"{', '.join(sorted(met))} are in it, and {', '.join(sorted(missed)) or 'none'} "
                "not"
            )
        which = f" ({', '.join(sorted(missed))})" if missed else ""
        return f"words: the lexical query does not match it; no token of the query{which} is in it"
    if words.position > window:
        last = ""
        if words.score is not None and words.last is not None:
            last = f"; its score is {words.score:.2f}, the last one's {words.last:.2f}"
        return (
            f"words: place {words.position:,} of {words.total:,} is outside the window of {window}"
            f"{last}"
        )
    return (
        f"words: place {words.position:,} is within the window of {window}, but others of the same "
        "score came first"
    )


def _by_vector(vector: Nearness, k: int) -> str:
    if not k:
        return "vector: this pipeline has no vector leg"
    if vector.place is None or vector.place.position is None:
        return f"vector: {vector.missing or 'it has none'}"
    place = vector.place
    if vector.place.position > k:
        last = ""
        if vector.cosine is not None and vector.last_cosine is not None:
            last = f"; its cosine is {vector.cosine:.3f}, the last one's {vector.last_cosine:.3f}"
        return f"vector: place {place.position:,} of {place.total:,} is outside k = {k}{last}"
    return (
        f"vector: place {place.position:,} is within k = {k} by exact comparison; the approximate "
        "search (HNSW) missed it, or the vector leg was left out (see degraded)"
    )


def cosine_of(score: float | None, space: str) -> float | None:
    """The cosine behind a `knn_score` script's score; None for another space."""
    if score is None:
        return None
    if space == _COSINE:
        return score - 1.0
    if space == _INNER_PRODUCT:
        return score - 1.0 if score >= 1.0 else 1.0 - 1.0 / score
    return None
