"""From candidates, query vector and taste to the raw numbers that the blend is made of.

In comments n is the number of candidates, d the encoder's dimensions; NaN means absent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from neuralrank.bundles.bundle import Calibration, calibrated
from neuralrank.errors import InvalidInput
from neuralrank.personal.affinity import interest
from sidecar.domain import Candidates, Floats, Item, ItemKey
from sidecar.models.serving import EncoderModel
from sidecar.ranking.blend import with_image
from sidecar.ranking.taste import Taste

__all__ = [
    "Photos",
    "Similarities",
    "category_match",
    "centroid_match",
    "complete",
    "image_cosines",
    "lacking",
    "most_have_vectors",
    "similarities",
    "without_vectors",
]


# Of candidates that have a vector, the least share by which to order where others were not read in
# time (docs/decisions/004-blend.md).
_MOST_VECTORS: Final = 0.75


@dataclass(frozen=True, slots=True)
class Similarities:
    """float32 [n] each. Cosines are raw, matches calibrated to [0, 1]. `event_match` is the match
    to each of the user's events, [m, n]; None: the user or the vectors are not known."""

    query_cosine: Floats
    query_match: Floats
    image_cosine: Floats
    user_cosine: Floats
    user_match: Floats
    event_match: Floats | None
    category_share: Floats
    brand_share: Floats

    @property
    def compared(self) -> bool:
        """Whether any candidate was compared to anything by vectors."""
        return not (np.isnan(self.query_cosine).all() and np.isnan(self.user_cosine).all())


@dataclass(frozen=True, slots=True)
class Photos:
    """How alike the photos of an item and of each candidate are, float32 [n], what the cosines
    mean, and whose vectors they are of. NaN: one of the two has no photo."""

    encoder: str
    cosines: Floats
    similarity: Calibration


def lacking(
    candidates: Candidates, *, vectors: bool, attributes: bool, photos: bool = False
) -> list[int]:
    """Positions of candidates that came without something the index may know.

    Args:
        vectors: whether a vector of the index could be used.
        attributes: whether a rule looks at them.
        photos: whether their photos are looked at, which none comes with.
    """
    lack = np.isnan(candidates.prices) | (candidates.in_stock < 0) | photos
    if vectors:
        lack |= ~candidates.has_vector
    if lack.all():
        return list(range(len(candidates)))
    return [
        position
        for position, already in enumerate(lack.tolist())
        if already
        or candidates.texts[position] is None
        or candidates.brands[position] is None
        or not candidates.categories[position]
        or (attributes and candidates.attributes[position] is None)
    ]


def complete(
    candidates: Candidates, items: Mapping[ItemKey, Item], dimensions: int, *, vectors: bool
) -> Candidates:
    """The candidates with what they lacked filled in from items; what came with them stays.

    Args:
        dimensions: of the encoder; 0 if none serves, and every vector is then dropped.
        vectors: whether the items' vectors are of that encoder.

    Raises:
        InvalidInput: vectors came with the request and are not of that encoder's length.
    """
    width = candidates.vectors.shape[1]
    if width and dimensions and width != dimensions:
        raise InvalidInput(
            f"The candidates' vectors have {width} dimensions; the encoder's have {dimensions}. "
            "Name the encoder that made them in options.encoder, or leave them out."
        )
    count = len(candidates)
    if not dimensions or not width:
        matrix = np.zeros((count, dimensions), np.float32)
        has_vector = np.zeros(count, bool)
    else:
        matrix, has_vector = candidates.vectors, candidates.has_vector
    if not items:
        return replace(candidates, vectors=matrix, has_vector=has_vector)

    found = [items.get(key) for key in candidates.keys]
    if vectors:
        matrix, has_vector = _with_vectors(matrix, has_vector, found)
    return replace(
        candidates,
        texts=[
            item.text if text is None and item is not None else text
            for text, item in zip(candidates.texts, found, strict=True)
        ],
        brands=[
            item.brand if brand is None and item is not None else brand
            for brand, item in zip(candidates.brands, found, strict=True)
        ],
        prices=_filled(
            candidates.prices, np.isnan(candidates.prices), found, lambda item: item.price
        ),
        in_stock=_filled(
            candidates.in_stock, candidates.in_stock < 0, found, lambda item: item.in_stock
        ),
        categories=[
            category if category or item is None else item.category
            for category, item in zip(candidates.categories, found, strict=True)
        ],
        attributes=[
            item.attributes if given is None and item is not None else given
            for given, item in zip(candidates.attributes, found, strict=True)
        ],
        vectors=matrix,
        has_vector=has_vector,
    )


def _filled(
    column: npt.NDArray[Any],
    absent: npt.NDArray[np.bool_],
    items: Sequence[Item | None],
    value: Callable[[Item], float],
) -> npt.NDArray[Any]:
    """The column with the items' values where it is absent and there is an item."""
    if not absent.any():
        return column
    filled = column.copy()
    for position in np.flatnonzero(absent).tolist():
        item = items[position]
        if item is not None:
            filled[position] = value(item)
    return filled


def _with_vectors(
    matrix: Floats, has_vector: npt.NDArray[np.bool_], items: Sequence[Item | None]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """float32 [n, d] and bool [n] with the items' vectors where there is none yet."""
    dimensions = matrix.shape[1]
    rows: list[int] = []
    found: list[Floats] = []
    for position in np.flatnonzero(~has_vector).tolist():
        item = items[position]
        vector = item.vector_of(dimensions) if item is not None else None
        if vector is not None:
            rows.append(position)
            found.append(vector)
    if not rows:
        return matrix, has_vector
    stacked = np.concatenate(found).reshape(-1, dimensions)
    if len(rows) == len(items):
        return stacked, np.ones(len(items), bool)
    matrix, has_vector = matrix.copy(), has_vector.copy()
    matrix[rows] = stacked
    has_vector[rows] = True
    return matrix, has_vector


def most_have_vectors(candidates: Candidates) -> bool:
    """Whether so many have a vector that these say something of the others. Where fewer do, those
    that happened to be in the cache would be put before, or behind, all that were not."""
    return bool(np.count_nonzero(candidates.has_vector) >= _MOST_VECTORS * len(candidates))


def without_vectors(candidates: Candidates) -> Candidates:
    return replace(candidates, has_vector=np.zeros(len(candidates), bool))


def similarities(
    candidates: Candidates,
    encoder: EncoderModel | None,
    query: Floats | None,
    taste: Taste | None,
    *,
    query_is_item: bool = False,
    photos: Photos | None = None,
) -> Similarities:
    """How near each candidate is to the query and to the user.

    Args:
        query: float32 [d] of length 1; None: no query, or no vector for it.
        query_is_item: the vector is an item's (similar items), whose cosines lie elsewhere.
        photos: how alike the photos are, which is a part of `query_match`.
    """
    absent = np.full(len(candidates), np.nan, np.float32)
    query_cosine = query_match = user_cosine = user_match = absent
    event_match = None
    if encoder is not None and candidates.has_vector.any():
        if query is not None:
            query_cosine = _cosines(candidates, query)
            calibrate = encoder.calibrate_item if query_is_item else encoder.calibrate_query
            query_match = calibrate(query_cosine)
        if taste is not None and taste.interest is not None:
            user_cosine = _cosines(candidates, taste.interest)
            event_match = encoder.calibrate_item(taste.vectors @ candidates.vectors.T)
            user_match = np.where(
                candidates.has_vector, interest(event_match, taste.weights), np.float32("nan")
            )
    image_cosine = absent
    if photos is not None:
        image_cosine = photos.cosines
        query_match = with_image(query_match, calibrated(image_cosine, photos.similarity))
    category_share = brand_share = absent
    if taste is not None and (taste.brands or taste.categories):
        brand_share = _brand_shares(candidates.brands, taste.brands)
        category_share = _category_shares(candidates.categories, taste.categories)
    return Similarities(
        query_cosine, query_match, image_cosine, user_cosine, user_match, event_match,
        category_share, brand_share,
    )  # fmt: skip


def image_cosines(
    keys: Sequence[ItemKey], items: Mapping[ItemKey, Item], item: Item | None
) -> Floats:
    """How alike the photos of candidates and of an item are, float32 [n] in [-1, 1]; NaN: one of
    the two has none."""
    cosines = np.full(len(keys), np.nan, np.float32)
    if item is None or item.image is None:
        return cosines
    places, rows = [], []
    for place, key in enumerate(keys):
        found = items.get(key)
        image = found.image if found is not None else None
        if image is not None and len(image) == len(item.image):
            places.append(place)
            rows.append(image)
    if rows:
        cosines[places] = np.clip(np.stack(rows) @ item.image, -1.0, 1.0)
    return cosines


def category_match(candidates: Candidates, item: Item | None) -> Floats:
    """The share of each candidate's categories that an item has too, float32 [n]; NaN: unknown."""
    if item is None or not item.category:
        return np.full(len(candidates), np.nan, np.float32)
    return _category_shares(
        candidates.categories, dict.fromkeys((name.casefold() for name in item.category), 1.0)
    )


def centroid_match(
    candidates: Candidates, encoder: EncoderModel | None, centroid: Floats | None
) -> Floats:
    """How near each candidate is to a centroid of items, float32 [n] in [0, 1]; NaN: no vector."""
    if centroid is None or encoder is None:
        return np.full(len(candidates), np.nan, np.float32)
    return encoder.calibrate_centroid(_cosines(candidates, centroid))


def _cosines(candidates: Candidates, vector: Floats) -> Floats:
    """float32 [n] in [-1, 1]; NaN where a candidate has no vector."""
    # Not `clip`: for a hundred candidates what it does beside computing is most of its time.
    cosines = np.minimum(np.maximum(candidates.vectors @ vector, np.float32(-1.0)), np.float32(1.0))
    return np.where(candidates.has_vector, cosines, np.float32("nan"))


def _brand_shares(brands: Sequence[str | None], shares: Mapping[str, float]) -> Floats:
    return np.array(
        [shares.get(brand.casefold(), 0.0) if brand else np.nan for brand in brands], np.float32
    )


def _category_shares(categories: Sequence[tuple[str, ...]], shares: Mapping[str, float]) -> Floats:
    """The mean over a candidate's categories: that both are electronics says less than that both
    are electronics, computers and laptops."""
    cache: dict[tuple[str, ...], float] = {}
    values = []
    for names in categories:
        value = cache.get(names)
        if value is None:
            value = cache[names] = (
                sum(shares.get(name.casefold(), 0.0) for name in names) / len(names)
                if names
                else float("nan")
            )
        values.append(value)
    return np.array(values, np.float32)
