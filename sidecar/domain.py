"""What ranking works on: plain frozen dataclasses, free of transport and storage. Of results there
may be ten thousand, so they are named tuples, which are made in a third of the time.

Candidates are columns rather than objects: they are converted once, at the edge, and stay numpy
arrays to the end. In comments n is the number of candidates, d the encoder's dimensions. NaN in a
float column means "absent".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "PHOTOS",
    "Arm",
    "AttributeRule",
    "Attributes",
    "Candidates",
    "Degradation",
    "DegradedReason",
    "DropReason",
    "Dropped",
    "EncodeInput",
    "Encoding",
    "Experiment",
    "Explanation",
    "Filters",
    "Floats",
    "Fusion",
    "Interaction",
    "Item",
    "ItemKey",
    "Mode",
    "Participation",
    "Profile",
    "RankQuery",
    "Ranked",
    "Ranking",
    "StageReport",
    "Weights",
]

# An interaction beside its texts: the object, two strings and a number.
_INTERACTION_BYTES = 220

Floats = npt.NDArray[np.float32]
Attributes = Mapping[str, Sequence[str]]
# What an item is read by: its id, or the concrete index that holds it and its id.
ItemKey = str | tuple[str, str]


class DropReason(Enum):
    """Why a candidate is not shown. Names are those of the wire contract."""

    PURCHASED = "purchased"
    BLOCKED_ITEM = "blocked_item"
    BLOCKED_BRAND = "blocked_brand"
    OUT_OF_STOCK = "out_of_stock"
    PRICE_RANGE = "price_range"
    ATTRIBUTE_RULE = "attribute_rule"
    BELOW_MIN_SCORE = "below_min_score"
    SAME_ITEM = "same_item"


class Fusion(Enum):
    """How the parts of the score are put together. Names are those of the wire contract."""

    WEIGHTS = "weights"
    RRF = "rrf"


class Mode(Enum):
    """How an experiment compares. Names are those of the wire contract."""

    AB = "ab"
    INTERLEAVE = "interleave"


class DegradedReason(Enum):
    """What kept an answer from being the best possible. Names are those of the wire contract."""

    DEADLINE = "deadline"
    OVERLOAD = "overload"
    NO_USER = "no_user"
    MODEL_UNAVAILABLE = "model_unavailable"
    ENCODER_MISMATCH = "encoder_mismatch"
    FEATURES_UNAVAILABLE = "features_unavailable"


@dataclass(frozen=True, slots=True)
class Degradation:
    """`partial`: something was left out that could have been there. Not so of a new user, and of
    vectors that an index does not have at all."""

    reason: DegradedReason
    detail: str
    partial: bool = True


@dataclass(frozen=True, slots=True)
class Interaction:
    """One thing a user did. `timestamp_ms` is since the Unix epoch, UTC."""

    item_id: str
    action: str
    timestamp_ms: int
    query: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a user; interactions newest first."""

    interactions: tuple[Interaction, ...] = ()
    purchased: frozenset[str] = frozenset()
    blocked_items: frozenset[str] = frozenset()
    # Lower case.
    blocked_brands: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Roughly the bytes that it takes in memory."""
        words = sum(
            len(row.item_id) + 2 * len(row.query) + _INTERACTION_BYTES for row in self.interactions
        )
        names = chain(self.purchased, self.blocked_items, self.blocked_brands)
        return 1_000 + words + sum(len(name) + 120 for name in names)


@dataclass(frozen=True, slots=True)
class Item:
    """A product as ranking needs it, read from the index.

    `vector` is float32 [d] of length 1, or None. `price` is NaN and `brand` "" where unknown.
    """

    id: str
    vector: Floats | None
    # The same of its photo, from the index's image encoder.
    image: Floats | None = None
    text: str = ""
    brand: str = ""
    price: float = float("nan")
    in_stock: bool = True
    category: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    version: int = -1
    # The concrete index that it was read from; "" where it was not.
    index: str = ""

    def vector_of(self, dimensions: int) -> Floats | None:
        """The vector if it is of that length. In an index whose vectors are cut, a document that
        others wrote has none of the encoder's."""
        vector = self.vector
        return vector if vector is not None and len(vector) == dimensions else None

    @property
    def size(self) -> int:
        """Roughly the bytes that it takes in memory."""
        vector = sum(v.nbytes + 112 for v in (self.vector, self.image) if v is not None)
        words = sum(len(value) + 60 for values in self.attributes.values() for value in values)
        names = sum(len(name) + 120 for name in self.attributes)
        category = sum(len(value) + 60 for value in self.category)
        return 300 + vector + 2 * len(self.text) + len(self.brand) + words + names + category


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a request as columns, in the order of retrieval.

    Before the features stage a column may hold "not given": text None, brand None, price NaN,
    in_stock -1, an empty category, attributes None, a row of `has_vector` False.
    """

    ids: list[str]
    # In their index; mostly the same.
    item_ids: list[str]
    # The concrete index that holds each; "": any that is searched.
    indexes: list[str]
    texts: list[str | None]
    # float32 [n], NaN: absent.
    retrieval: Floats
    # float32 [n, d], rows of length 1, zero where absent; [n, 0] if none came.
    vectors: Floats
    # bool [n].
    has_vector: npt.NDArray[np.bool_]
    brands: list[str | None]
    # float64 [n], NaN: unknown.
    prices: npt.NDArray[np.float64]
    # int8 [n]: 1 yes, 0 no, -1 not given.
    in_stock: npt.NDArray[np.int8]
    categories: list[tuple[str, ...]]
    # Those that rules look at.
    attributes: list[Attributes | None]
    # None: not given.
    versions: list[int | None]

    @classmethod
    def bare(
        cls, ids: Sequence[str], texts: Sequence[str | None], retrieval: Floats, vectors: Floats
    ) -> "Candidates":
        """Candidates of which nothing else is given.

        Args:
            vectors: float32 [n, d] of all of them, or [n, 0] of none.
        """
        count = len(ids)
        return cls(
            ids=list(ids),
            item_ids=list(ids),
            indexes=[""] * count,
            texts=list(texts),
            retrieval=retrieval,
            vectors=vectors,
            has_vector=np.full(count, vectors.shape[1] > 0),
            brands=[None] * count,
            prices=np.full(count, np.nan),
            in_stock=np.full(count, -1, np.int8),
            categories=[()] * count,
            attributes=[None] * count,
            versions=[None] * count,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> Sequence[ItemKey]:
        """What each is read by."""
        if not any(self.indexes):
            return self.item_ids
        return [
            (index, name) if index else name
            for index, name in zip(self.indexes, self.item_ids, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """`values` in lower case."""

    name: str
    values: frozenset[str]
    exclude: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    exclude_purchased: bool = False
    exclude_items: frozenset[str] = frozenset()
    # Lower case.
    exclude_brands: frozenset[str] = frozenset()
    min_price: float | None = None
    max_price: float | None = None
    in_stock_only: bool = False
    attributes: tuple[AttributeRule, ...] = ()


class Weights(NamedTuple):
    """How much each part of the score counts: each ≥ 0, not all zero. `cross_encoder`, in [0, 1],
    is its share within relevance, among the candidates that it has read; `diversity`, in [0, 1],
    the share of novelty in the score."""

    relevance: float
    affinity: float
    retrieval: float
    # Measured: docs/decisions/004-blend.md.
    cross_encoder: float = 0.2
    diversity: float = 0.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two ways of ranking of an experiment."""

    bundle: str
    weights: Weights
    fusion: Fusion


@dataclass(frozen=True, slots=True)
class Experiment:
    """Two ways of ranking that are compared on users; `arms` has "A" and "B"."""

    name: str
    mode: Mode
    arms: Mapping[str, Arm]
    # Of the users, above 0, at most 1.
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Participation:
    """What an experiment did with a request: the `arm` that ranked it, "" where it is interleaved
    or `left_out` says why it took no part."""

    name: str
    mode: Mode
    arm: str = ""
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class RankQuery:
    """A request to rank, checked. `user_id` "" and `profile` None: nobody in particular."""

    query: str
    candidates: Candidates
    weights: Weights
    language: str = ""
    user_id: str = ""
    profile: Profile | None = None
    index: str = ""
    similar_to: str = ""
    filters: Filters = field(default_factory=Filters)
    top_k: int = 0
    min_score: float | None = None
    explain: bool = False
    bundle: str = ""
    encoder: str = ""
    max_reranked: int = 0
    fusion: Fusion = Fusion.WEIGHTS
    experiment: Experiment | None = None
    # How much of a text a cross-encoder reads. 0: the setting.
    rerank_characters: int = 0
    request_id: str = ""
    list_blocked: bool = False
    # Whether what the query does not want is read.
    exclusions: bool = False

    @property
    def bundles(self) -> frozenset[str]:
        """The cross-encoders that it names, those of both arms among them."""
        arms = self.experiment.arms.values() if self.experiment else ()
        return frozenset({self.bundle, *(arm.bundle for arm in arms)} - {"", "none"})


class Explanation(NamedTuple):
    """A hit in numbers; None where a part is absent."""

    relevance: float | None
    affinity: float | None
    retrieval: float | None
    weights: Weights
    cross_encoder_logit: float | None
    query_similarity: float | None
    user_similarity: float | None
    image_similarity: float | None
    retrieval_score: float | None
    because_of: tuple[str, ...]
    summary: str
    novelty: float | None = None


class Ranked(NamedTuple):
    """A result."""

    id: str
    score: float
    position: int
    explanation: Explanation | None = None
    # "A" or "B" in an interleaved page.
    team: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    id: str
    position: int
    reason: DropReason
    detail: str


@dataclass(frozen=True, slots=True)
class StageReport:
    name: str
    candidates: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer. `dropped` is complete, in the order of the request."""

    results: tuple[Ranked, ...]
    dropped: tuple[Dropped, ...]
    degraded: tuple[Degradation, ...]
    stages: tuple[StageReport, ...]
    bundles: tuple[str, ...]
    experiment: Participation | None = None
    # What the user has blocked, where that was asked for.
    blocked: tuple[str, ...] = ()


# Kinds of inputs that an image encoder answers.
PHOTOS = frozenset({"image", "photo"})


@dataclass(frozen=True, slots=True)
class EncodeInput:
    """What to encode. `kind` is "query", "passage", "item", "user", "photo" (an item's) or "image";
    `value` the text or id, `image` what the file of an image holds, `interests` how many at most
    of a user's are told apart, `collaborative` how many ids at most are named, `list_blocked` and
    `list_purchased` whether those are."""

    kind: str
    value: str
    profile: Profile | None = None
    image: bytes = b""
    interests: int = 0
    collaborative: int = 0
    list_blocked: bool = False
    list_purchased: bool = False


@dataclass(frozen=True, slots=True)
class Interest:
    """`vector` is float32 [d] of length 1; `share` its part of the user's attention, in (0, 1]."""

    vector: Floats
    share: float


@dataclass(frozen=True, slots=True)
class Encoding:
    """`vector` is float32 [d] of length 1; None where `missing` says why. Of a user, if they were
    asked for, `interests`, the largest first, `collaborative`, the likeliest first, and `excluded`,
    what they have blocked and bought."""

    vector: Floats | None
    missing: str = ""
    interests: tuple[Interest, ...] = ()
    collaborative: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
