"""A live cluster's side as the files that `diff` and `apply` read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.opensearch.generation import one_index
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR
from neuralrank.ubi import EVENTS_INDEX, QUERIES_INDEX
from opensearch_config import files
from opensearch_config.live import chosen_mappings, chosen_settings

__all__ = ["export"]

_OURS: Final = ("neural_recall", "neural_rank")


def export(
    client: OpenSearch,
    name: str,
    folder: Path,
    source: Path = files.FOLDER,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Writes mapping, settings and analyzers of an index, its search pipelines, the UBI indexes.

    The pipelines are those that recall or rank with neuralrank, and the index's default one. The
    lexical query is no part of a cluster: the one in use here is copied. Of vectors that the index
    does not have, the shipped fields are written: another index of these files may have them, and
    one without leaves them out.

    Args:
        name: an index, or an alias of one.
        folder: is made; for `--folder` of `neuralrank config`.
        source: the files in use here.
        overwrite: whether files that are there are replaced.

    Returns:
        The files, in the order of their names.

    Raises:
        NotFound: there is no such index.
        InvalidInput: the name stands for several, or a file is there already.
        Unsupported: a file can't be written.
    """
    _, body = one_index(client, name)
    mappings = chosen_mappings(body["mappings"])
    settings = chosen_settings(body["settings"]["index"])
    _add_vectors(mappings, settings)
    texts: dict[str, Any] = {
        "mappings/product.json": mappings,
        "settings/product.json": settings,
        "queries/product.json": files.read(source / "queries" / "product.json"),
    }
    default = body["settings"]["index"].get("search", {}).get("default_pipeline")
    for pipeline, processors in client.search_pipeline.get().items():
        if pipeline == default or _is_ours(processors):
            texts[f"pipelines/{pipeline}.json"] = processors
    for index in (EVENTS_INDEX, QUERIES_INDEX):
        if client.indices.exists(index=index):
            (ubi,) = client.indices.get(index=index).values()
            texts[f"ubi/{index}.json"] = {
                "settings": chosen_settings(ubi["settings"]["index"]),
                "mappings": chosen_mappings(ubi["mappings"]),
            }
    return _write(folder, texts, overwrite)


def _add_vectors(mappings: dict[str, Any], settings: dict[str, Any]) -> None:
    shipped = files.read(files.FOLDER / "mappings" / "product.json")["properties"]
    fields = mappings["properties"] = dict(mappings.get("properties", {}))
    for vector, packed in ((VECTOR, PACKED), (IMAGE_VECTOR, IMAGE_PACKED)):
        if vector not in fields:
            fields |= {vector: shipped[vector], packed: shipped[packed]}
    if "knn" not in settings["index"]:
        ours = files.read(files.FOLDER / "settings" / "product.json")["index"]
        settings["index"] |= {name: ours[name] for name in ours if name.startswith("knn")}


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


def _is_ours(pipeline: Mapping[str, Any]) -> bool:
    return any(
        name in processor
        for section in ("request_processors", "response_processors")
        for processor in pipeline.get(section, ())
        for name in _OURS
    )
