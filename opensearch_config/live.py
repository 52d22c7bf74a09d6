"""What of a live index was chosen by somebody: as files, or for the index that follows it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from neuralrank.opensearch.generation import READ_ONLY, noted
from neuralrank.opensearch.packing import PACKED, VECTOR
from opensearch_config import files

__all__ = ["chosen_mappings", "chosen_settings", "over_live", "with_encoder"]

# Settings that an index has by existing, not by choice.
_OWN: Final = (
    "uuid", "creation_date", "provided_name", "version", "resize", "blocks", "replication",
    "routing", "routing_partition_size", "knn.derived_source", "history", "merge",
    "remote_store", "verified_before_close",
)  # fmt: skip
_REPLICAS: Final = frozenset({"number_of_replicas", "auto_expand_replicas"})
# What `neuralrank index` notes in `_meta.neuralrank` of an index that it makes.
_NOTES: Final = (
    "encoder", "dimensions", "catalogue", "mappings_and_settings", "state", "documents",
    "text_fields", "packed_vectors", "image_encoder", "image_dimensions", "image_similarity",
    READ_ONLY,
)  # fmt: skip


def with_encoder(live: Mapping[str, Any], encoder: str, dimensions: int) -> dict[str, Any]:
    """Settings and mappings of a live index, for vectors of another encoder. All else stays.

    Args:
        live: what OpenSearch says of the index.
        encoder: name@hash of the bundle.
        dimensions: of its vectors.
    """
    mappings = chosen_mappings(live["mappings"])
    settings = chosen_settings(live["settings"]["index"])
    held = {**noted(live["mappings"]), "encoder": encoder, "dimensions": dimensions}
    made = files.index_like(held)
    ours = made["mappings"]
    settings["index"] |= {
        name: value for name, value in made["settings"]["index"].items() if name.startswith("knn")
    }
    own = mappings.get("properties", {})
    # An index without vectors, or of an older version, gets the fields of the shipped files.
    vector = {**own.get(VECTOR, ours["properties"][VECTOR]), "dimension": dimensions}
    mappings["properties"] = {PACKED: ours["properties"][PACKED], **own, VECTOR: vector}
    meta = mappings.get("_meta", {})
    notes = {**ours["_meta"]["neuralrank"], **meta.get("neuralrank", {})}
    mappings["_meta"] = {**meta, "neuralrank": notes}
    return {"settings": settings, "mappings": mappings}


def over_live(live: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and mappings of the files, and beside them what only the live index has: a team's
    own fields, analyzers, settings and notes.

    Args:
        live: what OpenSearch says of the index.
        body: as of `files.index_like`.
    """
    own, wanted = chosen_mappings(live["mappings"]), body["mappings"]
    mappings = {
        **own,
        **wanted,
        "properties": _fields(own.get("properties", {}), wanted.get("properties", {})),
        "_meta": {**own.get("_meta", {}), **wanted.get("_meta", {})},
    }
    held = chosen_settings(live["settings"]["index"])
    settings = {"index": _settings(held["index"], body["settings"].get("index", {}))}
    new = body["settings"].get("analysis", {})
    if analysis := {
        section: {**held.get("analysis", {}).get(section, {}), **new.get(section, {})}
        for section in {**held.get("analysis", {}), **new}
    }:
        settings["analysis"] = analysis
    return {"settings": settings, "mappings": mappings}


def _fields(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted fields and subfields, and those that only the live index has."""
    merged = {**live, **wanted}
    for name, field in wanted.items():
        own = live.get(name, {}).get("fields", {})
        if own:
            merged[name] = {**field, "fields": {**own, **field.get("fields", {})}}
    return merged


def _settings(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The same of settings, by their dotted names. Replicas are said in one of two ways."""
    own, new = dict(_flat(live)), dict(_flat(wanted))
    if new.keys() & _REPLICAS:
        own = {name: value for name, value in own.items() if name not in _REPLICAS}
    return own | new


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def chosen_mappings(live: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the indexer notes about one index."""
    mappings = dict(live)
    meta = dict(mappings.pop("_meta", {}))
    if notes := {k: v for k, v in meta.pop("neuralrank", {}).items() if k not in _NOTES}:
        meta["neuralrank"] = notes
    first = {"dynamic": mappings.pop("dynamic")} if "dynamic" in mappings else {}
    return {**first, **({"_meta": meta} if meta else {}), **mappings}


def chosen_settings(live: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were chosen, with numbers and booleans as such; analysis apart, as the files have
    it."""
    chosen = {name: value for name, value in live.items() if name not in _OWN}
    # k-NN writes it into every index, as true; false is a choice (docs/decisions/023).
    derived = live.get("knn.derived_source", {})
    if derived.get("enabled") == "false":
        chosen["knn.derived_source"] = derived
    analysis = chosen.pop("analysis", None)
    # OpenSearch sets the number itself where it follows the nodes.
    if chosen.get("auto_expand_replicas", "false") != "false":
        chosen.pop("number_of_replicas", None)
    settings: dict[str, Any] = {"index": _plain(chosen)}
    if analysis:
        settings["analysis"] = _plain(analysis)
    return settings


def _plain(value: Any) -> Any:
    """OpenSearch gives settings back as strings, whatever they were."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if value in ("true", "false"):
        return value == "true"
    return int(value) if isinstance(value, str) and value.isdecimal() else value
