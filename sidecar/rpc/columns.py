"""From the candidates of a request to columns: the part of reading a request that has to be fast.

Each field of all candidates is taken at once, and presence is asked for only where a value is the
one that an absent field shows too.
"""

import math
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from neuralrank.errors import InvalidInput
from neuralrank.text.cleaning import beginnings
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Attributes, Candidates, Floats
from sidecar.sizes import (
    MAX_ATTRIBUTES,
    MAX_CATEGORIES,
    MAX_DIMENSIONS,
    MAX_FEATURES,
    MAX_ID,
    MAX_NAME,
    MAX_PASSAGE,
    MAX_VALUE,
    MAX_VALUES,
    at_most,
    column_at_most,
    shown,
)

__all__ = ["read_candidates"]

_ROW: Final = attrgetter(
    "id", "text", "retrieval_score", "vector", "brand", "price", "in_stock", "version",
    "category", "attributes", "features", "item_id", "index",
)  # fmt: skip
_GIVEN: Final[Attributes] = {}
# Vectors of a norm outside of these are measured again with more digits.
_NORMS: Final = (1e-12, 1e12)


def read_candidates(
    rows: Sequence[pb.Candidate], attribute_names: frozenset[str], characters: int = MAX_PASSAGE
) -> Candidates:
    """The candidates, checked.

    Args:
        attribute_names: the attributes that rules look at; others are counted and not read.
        characters: the most that anything reads of a text; no more is cleaned and kept.

    Raises:
        InvalidInput: a field can't be used.
    """
    rows = list(rows)
    # Row by row and not by `map`: in one call 10,000 of them keep every other thread, the event
    # loop's too, from the interpreter for 30 to 60 ms.
    fields = [_ROW(row) for row in rows]
    (
        names, texts, scores, packed, brands, prices, in_stock, versions, categories, attributes,
        features, items, indexes,
    ) = zip(*fields, strict=True) if rows else ((),) * 13  # fmt: skip
    ids: list[str] = list(names)
    _check_ids(ids)
    column_at_most("item_id", ids, items, MAX_ID)
    column_at_most("index", ids, indexes, MAX_ID)
    column_at_most("text", ids, texts, MAX_PASSAGE)
    column_at_most("brand", ids, brands, MAX_NAME)
    if any(features):
        for name, values in zip(ids, features, strict=True):
            _check_features(name, values)
    vectors, has_vector = _vectors(ids, packed)
    return Candidates(
        ids=ids,
        item_ids=[item or name for item, name in zip(items, ids, strict=True)]
        if any(items)
        else ids,
        indexes=list(indexes),
        texts=[
            text if text or row.HasField("text") else None
            for text, row in zip(beginnings(texts, characters), rows, strict=True)
        ],
        retrieval=_numbers("retrieval_score", ids, rows, scores, np.float32),
        vectors=vectors,
        has_vector=has_vector,
        brands=list(brands)
        if all(brands)
        else [
            brand if brand or row.HasField("brand") else None
            for brand, row in zip(brands, rows, strict=True)
        ],
        prices=_numbers("price", ids, rows, prices, np.float64),
        in_stock=np.array(
            [
                1 if value else 0 if row.HasField("in_stock") else -1
                for value, row in zip(in_stock, rows, strict=True)
            ],
            np.int8,
        ),
        categories=_categories(ids, categories),
        attributes=_attributes(ids, attributes, attribute_names),
        versions=[
            version if version or row.HasField("version") else None
            for version, row in zip(versions, rows, strict=True)
        ],
    )


def _check_ids(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInput(
            f"Candidate id {shown(twice)} comes twice; ids must be unique in a request."
        )
    if "" in ids:
        raise InvalidInput(f"candidates[{ids.index('')}].id is empty; every candidate needs an id.")
    column_at_most("id", ids, ids, MAX_ID)


def _check_features(name: str, features: Any) -> None:
    at_most(f"features of candidate {shown(name)}", len(features), MAX_FEATURES, "entries")
    for feature, value in features.items():
        if not math.isfinite(value):
            raise InvalidInput(
                f"features[{shown(feature)}] of candidate {shown(name)} is {value}; it must be "
                "finite. Leave it out where it is unknown."
            )


def _numbers(
    field: str,
    ids: Sequence[str],
    rows: Sequence[pb.Candidate],
    values: Sequence[float],
    kind: type[np.floating[Any]],
) -> npt.NDArray[Any]:
    """[n], NaN: absent."""
    numbers = np.array(values, kind)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InvalidInput(
            f"{field} of candidate {shown(ids[place])} is {numbers[place]}; it must be finite. "
            "Leave it out where it is unknown."
        )
    for place in np.flatnonzero(numbers == 0.0).tolist():
        if not rows[place].HasField(field):
            numbers[place] = np.nan
    return numbers


def _categories(ids: Sequence[str], given: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    # A slice takes a third of the time that going through one value after the other does.
    categories = [tuple(values[:]) if values else () for values in given]
    entries = max(map(len, categories), default=0)
    longest = max(map(len, chain.from_iterable(categories)), default=0)
    if entries > MAX_CATEGORIES or longest > MAX_NAME:
        for name, category in zip(ids, categories, strict=True):
            where = f"category of candidate {shown(name)}"
            at_most(where, len(category), MAX_CATEGORIES, "entries")
            longest = max(map(len, category), default=0)
            at_most(f"an entry of {where}", longest, MAX_NAME, "characters")
    return categories


def _attributes(
    ids: Sequence[str], given: Sequence[Any], wanted: frozenset[str]
) -> list[Attributes | None]:
    """Of each candidate those that are wanted; None where it came with none at all."""
    counts = list(map(len, given))
    if max(counts, default=0) > MAX_ATTRIBUTES:
        for name, count in zip(ids, counts, strict=True):
            at_most(f"attributes of candidate {shown(name)}", count, MAX_ATTRIBUTES, "entries")
    if not wanted:
        return [_GIVEN if count else None for count in counts]
    return [
        {
            attribute: _values(name, attribute, values[attribute].values)
            for attribute in wanted
            if attribute in values
        }
        if count
        else None
        for name, count, values in zip(ids, counts, given, strict=True)
    ]


def _values(name: str, attribute: str, given: Sequence[str]) -> tuple[str, ...]:
    values = tuple(given)
    longest = max(map(len, values), default=0)
    if len(values) > MAX_VALUES or longest > MAX_VALUE:
        where = f"attributes[{shown(attribute)}] of candidate {shown(name)}"
        at_most(where, len(values), MAX_VALUES, "values")
        at_most(f"a value of {where}", longest, MAX_VALUE, "characters")
    return values


def _vectors(ids: Sequence[str], packed: Sequence[bytes]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """float32 [n, d] of unit length, and bool [n]: which rows came. A zero vector is none."""
    lengths = np.fromiter(map(len, packed), np.int64, len(packed))
    has_vector = lengths > 0
    if not has_vector.any():
        return np.zeros((len(ids), 0), np.float32), has_vector
    first = int(np.argmax(has_vector))
    length = int(lengths[first])
    if length % 4 or length > 4 * MAX_DIMENSIONS:
        raise InvalidInput(
            f"The vector of candidate {shown(ids[first])} has {length} bytes; packed float32 has a "
            f"multiple of 4, and {4 * MAX_DIMENSIONS} at most."
        )
    if ((lengths != length) & has_vector).any():
        other = int(np.argmax((lengths != length) & has_vector))
        raise InvalidInput(
            f"The vector of candidate {shown(ids[other])} has {lengths[other]} bytes, others have "
            f"{length}; all must come from one encoder."
        )
    # float32 [given, d]
    given = np.frombuffer(b"".join(packed), "<f4").reshape(-1, length // 4)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.vecdot(given, given))
    if not ((norms > _NORMS[0]) & (norms < _NORMS[1])).all():
        with np.errstate(invalid="ignore"):
            norms = np.sqrt(np.einsum("nd,nd->n", given, given, dtype=np.float64))
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(has_vector)[np.flatnonzero(~np.isfinite(norms))[0]])
        raise InvalidInput(
            f"The vector of candidate {shown(ids[row])} has numbers that are not finite; leave it "
            "out."
        )
    unit = np.asarray(given / np.maximum(norms, 1e-12)[:, None], np.float32)
    if has_vector.all() and (norms > 1e-12).all():
        return unit, has_vector
    vectors = np.zeros((len(ids), length // 4), np.float32)
    vectors[has_vector] = unit
    has_vector[has_vector] = norms > 1e-12
    return vectors, has_vector
