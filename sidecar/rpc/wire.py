"""From protobuf to `sidecar.domain`: checks every field, then never looks at protobuf again.

Every check raises `InvalidInput` with what was received, what is allowed and what to do.
"""

import math
import time
from collections.abc import Sequence
from typing import Final

from neuralrank.encoders.pictures import MAX_BYTES
from neuralrank.errors import InvalidInput
from neuralrank.personal.affinity import action_weight
from neuralrank.text.cleaning import beginning
from neuralrank.ubi import BLOCKS
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import (
    PHOTOS,
    Arm,
    AttributeRule,
    EncodeInput,
    Filters,
    Fusion,
    Interaction,
    Profile,
    RankQuery,
    Weights,
)
from sidecar.features.events import as_steps
from sidecar.rpc.columns import read_candidates
from sidecar.rpc.scoring import read_experiment, read_fusion, read_weights
from sidecar.sizes import (
    MAX_COLLABORATIVE,
    MAX_ID,
    MAX_IMAGES,
    MAX_INPUTS,
    MAX_INTERACTIONS,
    MAX_INTERESTS,
    MAX_LIST,
    MAX_NAME,
    MAX_PASSAGE,
    MAX_QUERY,
    MAX_REQUEST_ID,
    MAX_RULES,
    MAX_VALUE,
    MAX_VALUES,
    at_most,
    shown,
)

__all__ = ["read_encode", "read_rank"]

_FEWER: Final = "Send fewer."


def read_rank(
    request: pb.RankRequest,
    defaults: Weights,
    max_candidates: int = 10_000,
    *,
    exclusions: bool = True,
    characters: int = MAX_PASSAGE,
) -> RankQuery:
    """The checked request.

    Args:
        defaults: the weights where the request has none.
        exclusions: whether what the query excludes is read, where the request does not say.
        characters: the most that anything reads of a candidate's text.

    Raises:
        InvalidInput: a field can't be used.
    """
    options = request.options
    for name, value, most in (
        ("request_id", request.request_id, MAX_REQUEST_ID),
        ("language", request.language, MAX_NAME),
        ("index", request.index, MAX_ID),
        ("similar_to", request.similar_to, MAX_ID),
        ("options.bundle", options.bundle, MAX_NAME),
        ("options.encoder", options.encoder, MAX_NAME),
    ):
        at_most(name, len(value), most, "characters")
    if request.similar_to and not request.index:
        raise InvalidInput(
            f"similar_to is {shown(request.similar_to)} but index is empty; name the index that "
            "holds the item."
        )
    best = "Send the best of them only."
    at_most("The request", len(request.candidates), max_candidates, "candidates", best)
    weights = read_weights("options.weights", options.weights, defaults)
    fusion = read_fusion("options.fusion", options.fusion, Fusion.WEIGHTS)
    usual = Arm(options.bundle, weights, fusion)
    min_score = options.min_score if options.HasField("min_score") else None
    if min_score is not None and not 0.0 <= min_score <= 1.0:
        raise InvalidInput(f"options.min_score is {min_score}; allowed is 0 to 1.")
    filters = _filters(options.filters) if options.HasField("filters") else Filters()
    profile = _profile("user", request.user)
    names = {rule.name for rule in filters.attributes}
    if filters.exclude_brands or (profile is not None and profile.blocked_brands):
        names.add("brand")
    return RankQuery(
        query=_query("query", request.query),
        candidates=read_candidates(request.candidates, frozenset(names), characters),
        weights=weights,
        language=request.language.lower().partition("-")[0],
        user_id=request.user.id,
        profile=profile,
        index=request.index,
        similar_to=request.similar_to,
        filters=filters,
        top_k=options.top_k,
        min_score=min_score,
        explain=options.explain,
        bundle=options.bundle,
        encoder=options.encoder,
        max_reranked=options.max_reranked,
        fusion=fusion,
        experiment=(
            read_experiment(options.experiment, usual) if options.HasField("experiment") else None
        ),
        request_id=request.request_id,
        list_blocked=options.list_blocked,
        exclusions=options.exclusions if options.HasField("exclusions") else exclusions,
    )


def read_encode(request: pb.EncodeRequest) -> tuple[EncodeInput, ...]:
    """The checked inputs of an Encode request.

    Raises:
        InvalidInput: there are none or too many, or one can't be used.
    """
    at_most("encoder", len(request.encoder), MAX_NAME, "characters")
    at_most("index", len(request.index), MAX_ID, "characters")
    if not 1 <= len(request.inputs) <= MAX_INPUTS:
        raise InvalidInput(
            f"inputs has {len(request.inputs)} entries; allowed are 1 to {MAX_INPUTS}. Split it."
        )
    inputs = tuple(
        _encode_input(number, entry, request.index) for number, entry in enumerate(request.inputs)
    )
    photos = sum(entry.kind in PHOTOS for entry in inputs)
    if 0 < photos < len(inputs):
        raise InvalidInput(
            f"{photos} of {len(inputs)} inputs are photos; one encoder answers a request. Send "
            "photos and texts apart."
        )
    images = sum(entry.kind == "image" for entry in inputs)
    at_most("The request", images, MAX_IMAGES, "images", "Split it.")
    return inputs


def _encode_input(number: int, entry: pb.EncodeInput, index: str) -> EncodeInput:
    where = f"inputs[{number}]"
    kind = entry.WhichOneof("input")
    for name, value, most in (
        ("interests", entry.interests, MAX_INTERESTS),
        ("collaborative", entry.collaborative, MAX_COLLABORATIVE),
        ("list_blocked", entry.list_blocked, True),
        ("list_purchased", entry.list_purchased, True),
    ):
        if value > most:
            raise InvalidInput(f"{where}.{name} is {value}; allowed are 0 to {most}. Ask for less.")
        if value and kind != "user":
            raise InvalidInput(
                f"{where}.{name} is {value}, of {kind or 'nothing'}; only a user has them. Leave "
                "it out."
            )
    match kind:
        case "query":
            query = _query(f"{where}.query", entry.query)
            if not query:
                raise InvalidInput(f"{where}.query is empty; a text is needed to make a vector.")
            return EncodeInput("query", query)
        case "passage":
            # Before it is cleaned, which may make it longer than that and is cut then; and after,
            # when nothing may be left.
            at_most(f"{where}.passage", len(entry.passage), MAX_PASSAGE, "characters")
            passage = beginning(entry.passage, MAX_PASSAGE)
            if not passage.strip():
                raise InvalidInput(f"{where}.passage is empty; a text is needed to make a vector.")
            return EncodeInput("passage", passage)
        case "user":
            profile = _profile(f"{where}.user", entry.user)
            if not entry.user.id and profile is None:
                raise InvalidInput(f"{where}.user has neither id nor profile; give one of them.")
            if not index:
                raise InvalidInput(
                    f"{where} is a user but index is empty; name the index whose items the user "
                    "touched."
                )
            return EncodeInput(
                "user", entry.user.id, profile,
                interests=entry.interests, collaborative=entry.collaborative,
                list_blocked=entry.list_blocked, list_purchased=entry.list_purchased,
            )  # fmt: skip
        case "item_id":
            return EncodeInput("item", _item(where, "item_id", "the item", entry.item_id, index))
        case "image":
            if not entry.image:
                raise InvalidInput(f"{where}.image is empty; give what the file of a photo holds.")
            at_most(f"{where}.image", len(entry.image), MAX_BYTES, "bytes", "Send a smaller one.")
            return EncodeInput("image", "", image=entry.image)
        case "photo_of":
            what = "the photo of item"
            return EncodeInput("photo", _item(where, "photo_of", what, entry.photo_of, index))
        case _:
            raise InvalidInput(
                f"{where} is empty; give query, passage, user, item_id, image or photo_of."
            )


def _item(where: str, field: str, what: str, name: str, index: str) -> str:
    """The id of an item that is looked up in an index."""
    if not name or not index:
        raise InvalidInput(
            f"{where} is {what} {shown(name)} of index {index!r}; both must be given."
        )
    at_most(f"{where}.{field}", len(name), MAX_ID, "characters")
    return name


def _query(name: str, text: str) -> str:
    at_most(name, len(text), MAX_QUERY, "characters")
    return beginning(text, MAX_QUERY).strip()


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
    at_most("filters.attributes", len(filters.attributes), MAX_RULES, "rules", _FEWER)
    rules = []
    for number, rule in enumerate(filters.attributes):
        where = f"filters.attributes[{number}]"
        if not rule.name or not rule.values:
            raise InvalidInput(
                f"{where} has name {shown(rule.name)} and {len(rule.values)} values; a name and at "
                "least one value are needed."
            )
        at_most(f"{where}.name", len(rule.name), MAX_NAME, "characters")
        values = frozenset(_listed(f"{where}.values", rule.values, MAX_VALUES, MAX_VALUE))
        rules.append(AttributeRule(rule.name, values, rule.exclude))
    return Filters(
        exclude_purchased=filters.exclude_purchased,
        exclude_items=frozenset(
            _listed("filters.exclude_items", filters.exclude_items, MAX_LIST, MAX_ID)
        ),
        exclude_brands=frozenset(
            _listed("filters.exclude_brands", filters.exclude_brands, MAX_LIST, MAX_NAME)
        ),
        min_price=low,
        max_price=high,
        in_stock_only=filters.in_stock_only,
        attributes=tuple(rules),
    )


def _profile(where: str, user: pb.User) -> Profile | None:
    at_most(f"{where}.id", len(user.id), MAX_ID, "characters")
    if not user.HasField("profile"):
        return None
    profile = user.profile
    newest = "Send the newest only."
    name = f"{where}.profile.interactions"
    at_most(name, len(profile.interactions), MAX_INTERACTIONS, "entries", newest)
    for number, row in enumerate(profile.interactions):
        at_most(f"{name}[{number}].item_id", len(row.item_id), MAX_ID, "characters")
        at_most(f"{name}[{number}].action", len(row.action), MAX_NAME, "characters")
        at_most(f"{name}[{number}].query", len(row.query), MAX_QUERY, "characters")
    # Where none is stamped, all are alike, and the same profile is the same the next time.
    stamped = any(row.timestamp_ms for row in profile.interactions)
    now = int(time.time() * 1_000) if stamped else 0
    items = f"{where}.profile.blocked_items"
    brands = f"{where}.profile.blocked_brands"
    return Profile(
        # As events are read: what was only shown stands between nothing that was done.
        interactions=tuple(
            as_steps(
                Interaction(
                    row.item_id,
                    row.action,
                    min(row.timestamp_ms or now, now),
                    beginning(row.query, MAX_QUERY),
                )
                for row in profile.interactions
                if row.action not in BLOCKS and action_weight(row.action) > 0
            )
        ),
        purchased=frozenset(
            row.item_id for row in profile.interactions if row.action == "purchase" and row.item_id
        ),
        blocked_items=frozenset(_listed(items, profile.blocked_items, MAX_LIST, MAX_ID))
        | {row.item_id for row in profile.interactions if row.item_id and row.action in BLOCKS},
        blocked_brands=frozenset(_listed(brands, profile.blocked_brands, MAX_LIST, MAX_NAME)),
    )


def _listed(name: str, values: Sequence[str], entries: int, characters: int) -> Sequence[str]:
    """The values, if they are neither too many nor too long."""
    at_most(name, len(values), entries, "entries", _FEWER)
    at_most(f"an entry of {name}", max(map(len, values), default=0), characters, "characters")
    return values
