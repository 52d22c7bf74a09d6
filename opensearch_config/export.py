"""A live cluster's side as the files that `diff` and `apply` read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound, Unsupported
from neuralrank.ubi import EVENTS_INDEX, QUERIES_INDEX
from opensearch_config import files

__all__ = ["export"]

# Settings that an index has by existing, not by choice.
_OWN: Final = (
    "uuid", "creation_date", "provided_name", "version", "resize", "blocks", "replication",
    "routing", "routing_partition_size", "knn.derived_source", "history", "merge",
)  # fmt: skip
# What `neuralrank index` notes in `_meta.neuralrank` of an index that it makes.
_NOTES: Final = (
    "encoder", "dimensions", "catalogue", "state", "documents", "text_fields", "packed_vectors",
)  # fmt: skip
_OURS: Final = ("neural_recall", "neural_rank")


def export(client: OpenSearch, name: str, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Writes mapping, settings and analyzers of an index, its search pipelines, the UBI indexes.

    The pipelines are those that recall or rank with neuralrank, and the index's default one. The
    lexical query is no part of a cluster: the one in use here is copied.

    Args:
        name: an index, or an alias of one.
        folder: is made; for `--folder` of `neuralrank config`.
        overwrite: whether files that are there are replaced.

    Returns:
        The files, in the order of their names.

    Raises:
        NotFound: there is no such index.
        InvalidInput: the name stands for several, or a file is there already.
        Unsupported: a file can't be written.
    """
    try:
        found = client.indices.get(index=name)
    except NotFound as error:
        raise NotFound(f"There is no index {name!r}: {error} Name one that there is.") from error
    if len(found) != 1:
        raise InvalidInput(
            f"{name!r} stands for {len(found)} indexes ({', '.join(sorted(found)) or 'none'}). "
            "Name one of them."
        )
    (body,) = found.values()
    texts: dict[str, Any] = {
        "mappings/product.json": _mappings(body["mappings"]),
        "settings/product.json": _settings(body["settings"]["index"]),
        "queries/product.json": files.read(files.FOLDER / "queries" / "product.json"),
    }
    default = body["settings"]["index"].get("search", {}).get("default_pipeline")
    for pipeline, processors in client.search_pipeline.get().items():
        if pipeline == default or _is_ours(processors):
            texts[f"pipelines/{pipeline}.json"] = processors
    for index in (EVENTS_INDEX, QUERIES_INDEX):
        if client.indices.exists(index=index):
            (ubi,) = client.indices.get(index=index).values()
            texts[f"ubi/{index}.json"] = {
                "settings": _settings(ubi["settings"]["index"]),
                "mappings": _mappings(ubi["mappings"]),
            }
    return _write(folder, texts, overwrite)


def _write(folder: Path, texts: Mapping[str, Any], overwrite: bool) -> list[Path]:
    paths = {folder / name: value for name, value in sorted(texts.items())}
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise InvalidInput(
            f"{', '.join(there)} would be overwritten. Name another folder, or give --overwrite."
        )
    try:
        for path, value in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise Unsupported(f"{folder} can't be written to: {error}. Name another folder.") from error
    return list(paths)


def _mappings(live: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the indexer notes about one index."""
    mappings = dict(live)
    meta = dict(mappings.pop("_meta", {}))
    if notes := {k: v for k, v in meta.pop("neuralrank", {}).items() if k not in _NOTES}:
        meta["neuralrank"] = notes
    first = {"dynamic": mappings.pop("dynamic")} if "dynamic" in mappings else {}
    return {**first, **({"_meta": meta} if meta else {}), **mappings}


def _settings(live: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were chosen, with numbers and booleans as such; analysis apart, as the files have
    it."""
    chosen = {name: value for name, value in live.items() if name not in _OWN}
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


def _is_ours(pipeline: Mapping[str, Any]) -> bool:
    return any(
        name in processor
        for section in ("request_processors", "response_processors")
        for processor in pipeline.get(section, ())
        for name in _OURS
    )
