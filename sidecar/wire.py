"""From protobuf to `sidecar.domain`: checks every field, then never looks at protobuf again.

Every check raises `InvalidInput` with what was received, what is allowed and what to do.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import (
    AttributeRule,
    Attributes,
    Candidates,
    EncodeInput,
    Filters,
    Floats,
    Interaction,
    Profile,
    RankQuery,
    Weights,
)

__all__ = ["read_encode", "read_rank"]

MAX_QUERY: Final = 2_048
MAX_PASSAGE: Final = 65_536
MAX_REQUEST_ID: Final = 128
MAX_INTERACTIONS: Final = 500
MAX_INPUTS: Final = 256

_NO_ATTRIBUTES: Final[Attributes] = {}


def read_rank(
    request: pb.RankRequest, defaults: Weights, max_candidates: int = 10_000
) -> RankQuery:
    """The checked request.

    Args:
        defaults: the weights where the request has none.

    Raises:
        InvalidInput: a field can't be used.
    """
    options = request.options
    if len(request.request_id) > MAX_REQUEST_ID:
        raise InvalidInput(
            f"request_id has {len(request.request_id)} characters; allowed are {MAX_REQUEST_ID}. "
            "Shorten it."
        )
    if request.similar_to and not request.index:
        raise InvalidInput(
            f"similar_to is {request.similar_to!r} but index is empty; name the index that holds "
            "the item."
        )
    if len(request.candidates) > max_candidates:
        raise InvalidInput(
            f"The request has {len(request.candidates)} candidates; allowed are {max_candidates}. "
            "Send the best of them only."
        )
    min_score = options.min_score if options.HasField("min_score") else None
    if min_score is not None and not 0.0 <= min_score <= 1.0:
        raise InvalidInput(f"options.min_score is {min_score}; allowed is 0 to 1.")
    return RankQuery(
        query=_query("query", request.query),
        candidates=_candidates(request.candidates),
        weights=_weights(options.weights, defaults),
        language=request.language.lower().partition("-")[0],
        user_id=request.user.id,
        profile=_profile(request.user),
        index=request.index,
        similar_to=request.similar_to,
        filters=_filters(options.filters) if options.HasField("filters") else Filters(),
        top_k=options.top_k,
        min_score=min_score,
        explain=options.explain,
        bundle=options.bundle,
        encoder=options.encoder,
        deadline_ms=options.deadline_ms,
        max_reranked=options.max_reranked,
        request_id=request.request_id,
    )


def read_encode(request: pb.EncodeRequest) -> tuple[EncodeInput, ...]:
    """The checked inputs of an Encode request.

    Raises:
        InvalidInput: there are none or too many, or one can't be used.
    """
    if not 1 <= len(request.inputs) <= MAX_INPUTS:
        raise InvalidInput(
            f"inputs has {len(request.inputs)} entries; allowed are 1 to {MAX_INPUTS}. Split it."
        )
    return tuple(
        _encode_input(number, entry, request.index) for number, entry in enumerate(request.inputs)
    )


def _encode_input(number: int, entry: pb.EncodeInput, index: str) -> EncodeInput:
    where = f"inputs[{number}]"
    match entry.WhichOneof("input"):
        case "query":
            query = _query(f"{where}.query", entry.query)
            if not query:
                raise InvalidInput(f"{where}.query is empty; a text is needed to make a vector.")
            return EncodeInput("query", query)
        case "passage":
            if not entry.passage.strip() or len(entry.passage) > MAX_PASSAGE:
                raise InvalidInput(
                    f"{where}.passage has {len(entry.passage)} characters (blanks don't count); "
                    f"allowed are 1 to {MAX_PASSAGE}. Shorten it or leave it out."
                )
            return EncodeInput("passage", entry.passage)
        case "user":
            profile = _profile(entry.user)
            if not entry.user.id and profile is None:
                raise InvalidInput(f"{where}.user has neither id nor profile; give one of them.")
            if not index:
                raise InvalidInput(
                    f"{where} is a user but index is empty; name the index whose items the user "
                    "touched."
                )
            return EncodeInput("user", entry.user.id, profile)
        case "item_id":
            if not entry.item_id or not index:
                raise InvalidInput(
                    f"{where} is the item {entry.item_id!r} of index {index!r}; both must be given."
                )
            return EncodeInput("item", entry.item_id)
        case _:
            raise InvalidInput(f"{where} is empty; give query, passage, user or item_id.")


def _query(name: str, text: str) -> str:
    if len(text) > MAX_QUERY:
        raise InvalidInput(
            f"{name} has {len(text)} characters; allowed are {MAX_QUERY}. Shorten it."
        )
    return text.strip()


def _candidates(rows: Sequence[pb.Candidate]) -> Candidates:
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInput(f"Candidate id {twice!r} comes twice; ids must be unique in a request.")
    if "" in ids:
        raise InvalidInput(f"candidates[{ids.index('')}].id is empty; every candidate needs an id.")

    nan = math.nan
    retrieval = [row.retrieval_score if row.HasField("retrieval_score") else None for row in rows]
    prices = [row.price if row.HasField("price") else None for row in rows]
    _finite("retrieval_score", ids, retrieval)
    _finite("price", ids, prices)
    for row in rows:
        if row.features:
            for name, value in row.features.items():
                if not math.isfinite(value):
                    raise InvalidInput(
                        f"features[{name!r}] of candidate {row.id!r} is {value}; it must be "
                        "finite. Leave it out where it is unknown."
                    )
    vectors, has_vector = _vectors(ids, rows)
    return Candidates(
        ids=ids,
        texts=[row.text if row.HasField("text") else None for row in rows],
        retrieval=np.array([nan if x is None else x for x in retrieval], np.float32),
        vectors=vectors,
        has_vector=has_vector,
        brands=[row.brand if row.HasField("brand") else None for row in rows],
        prices=np.array([nan if x is None else x for x in prices], np.float64),
        in_stock=np.array(
            [row.in_stock if row.HasField("in_stock") else -1 for row in rows], np.int8
        ),
        categories=[tuple(row.category) if row.category else () for row in rows],
        attributes=[
            {name: tuple(values.values) for name, values in row.attributes.items()}
            if row.attributes
            else _NO_ATTRIBUTES
            for row in rows
        ],
        versions=[row.version if row.HasField("version") else None for row in rows],
    )


def _finite(name: str, ids: Sequence[str], values: Iterable[float | None]) -> None:
    for candidate, value in zip(ids, values, strict=True):
        if value is not None and not math.isfinite(value):
            raise InvalidInput(
                f"{name} of candidate {candidate!r} is {value}; it must be finite. Leave it out "
                "where it is unknown."
            )


def _vectors(ids: Sequence[str], rows: Sequence[pb.Candidate]) -> tuple[Floats, Any]:
    """float32 [n, d] of unit length, and bool [n]: which rows came. A zero vector is none."""
    packed = [row.vector for row in rows]
    has_vector = np.fromiter((bool(vector) for vector in packed), bool, len(packed))
    if not has_vector.any():
        return np.zeros((len(ids), 0), np.float32), has_vector
    length = len(next(vector for vector in packed if vector))
    if length % 4:
        raise InvalidInput(
            f"A candidate's vector has {length} bytes; packed float32 has a multiple of 4."
        )
    for candidate, vector in zip(ids, packed, strict=True):
        if vector and len(vector) != length:
            raise InvalidInput(
                f"The vector of candidate {candidate!r} has {len(vector)} bytes, others have "
                f"{length}; all must come from one encoder."
            )
    given = np.frombuffer(b"".join(packed), "<f4").reshape(-1, length // 4)
    norms = np.sqrt(np.einsum("nd,nd->n", given, given, dtype=np.float64))
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(has_vector)[np.flatnonzero(~np.isfinite(norms))[0]])
        raise InvalidInput(
            f"The vector of candidate {ids[row]!r} has numbers that are not finite; leave it out."
        )
    vectors = np.zeros((len(ids), length // 4), np.float32)
    vectors[has_vector] = given / np.maximum(norms, 1e-12)[:, None]
    has_vector[has_vector] = norms > 1e-12
    return vectors, has_vector


def _weights(weights: pb.Weights, defaults: Weights) -> Weights:
    values = {}
    for name in ("relevance", "affinity", "retrieval"):
        value = getattr(weights if weights.HasField(name) else defaults, name)
        if not (math.isfinite(value) and value >= 0):
            raise InvalidInput(
                f"options.weights.{name} is {value}; allowed is a finite number of 0 or more."
            )
        values[name] = value
    if not sum(values.values()):
        raise InvalidInput("options.weights are all 0; at least one must be above 0.")
    return Weights(**values)


def _filters(filters: pb.Filters) -> Filters:
    low = filters.min_price if filters.HasField("min_price") else None
    high = filters.max_price if filters.HasField("max_price") else None
    for name, bound in (("min_price", low), ("max_price", high)):
        if bound is not None and not math.isfinite(bound):
            raise InvalidInput(f"filters.{name} is {bound}; it must be finite. Leave it out.")
    if low is not None and high is not None and low > high:
        raise InvalidInput(
            f"filters.min_price is {low:g}, above max_price {high:g}; exchange them or drop one."
        )
    rules = []
    for number, rule in enumerate(filters.attributes):
        if not rule.name or not rule.values:
            raise InvalidInput(
                f"filters.attributes[{number}] has name {rule.name!r} and {len(rule.values)} "
                "values; a name and at least one value are needed."
            )
        rules.append(AttributeRule(rule.name, _lower(rule.values), rule.exclude))
    return Filters(
        exclude_purchased=filters.exclude_purchased,
        exclude_items=frozenset(filters.exclude_items),
        exclude_brands=_lower(filters.exclude_brands),
        min_price=low,
        max_price=high,
        in_stock_only=filters.in_stock_only,
        attributes=tuple(rules),
    )


def _profile(user: pb.User) -> Profile | None:
    if not user.HasField("profile"):
        return None
    profile = user.profile
    if len(profile.interactions) > MAX_INTERACTIONS:
        raise InvalidInput(
            f"user.profile.interactions has {len(profile.interactions)} entries; allowed are "
            f"{MAX_INTERACTIONS}. Send the newest only."
        )
    now = int(time.time() * 1_000)
    return Profile(
        interactions=tuple(
            Interaction(row.item_id, row.action, row.timestamp_ms or now, row.query[:MAX_QUERY])
            for row in profile.interactions
        ),
        purchased=frozenset(
            row.item_id for row in profile.interactions if row.action == "purchase" and row.item_id
        ),
        blocked_items=frozenset(profile.blocked_items),
        blocked_brands=_lower(profile.blocked_brands),
    )


def _lower(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value.casefold() for value in values)
