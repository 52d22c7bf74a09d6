"""The files that a search engineer edits, read and checked.

mappings/product.json      fields of a product index
settings/product.json      its settings and analyzers; lists such as synonyms may be files beside it
queries/product.json       the lexical product query; "{{query}}" stands for the user's text
pipelines/*.json           search pipelines, by file name
ubi/*.json                 the UBI indexes, by file name
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from neuralrank.catalogue.product import PASSAGE_FIELDS
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.packing import IMAGE_PACKED, IMAGE_VECTOR, PACKED, VECTOR
from opensearch_config.fields import mixed_analyzers

__all__ = [
    "FOLDER",
    "PLACEHOLDER",
    "files",
    "filled",
    "index_like",
    "lexical_query",
    "pipelines",
    "product_index",
    "ubi_indexes",
]

FOLDER: Final = Path(__file__).resolve().parent
# Where the text of a user stands in a query.
PLACEHOLDER: Final = "{{query}}"
# Lists of analysis settings that may stand in a file: the key that names the file, and OpenSearch's
# key for the list itself.
_LISTS: Final = {
    "synonyms_path": "synonyms",
    "stopwords_path": "stopwords",
    "keywords_path": "keywords",
    "protected_words_path": "protected_words",
    "word_list_path": "word_list",
    "mappings_path": "mappings",
    "user_dictionary": "user_dictionary_rules",
}


def product_index(
    encoder: str = "",
    dimensions: int = 0,
    folder: Path = FOLDER,
    *,
    image_encoder: str = "",
    image_dimensions: int = 0,
) -> dict[str, Any]:
    """Settings and mappings of a product index.

    Args:
        encoder: name@hash of the bundle that makes its vectors; empty: no vectors.
        dimensions: of those vectors; the mapping file's own number is replaced by it.
        image_encoder, image_dimensions: the same of vectors of photos. Without either kind the k-NN
            plugin is not needed.
    """
    mappings = read(folder / "mappings" / "product.json")
    settings = _with_lists(_settings(folder / "settings" / "product.json"), folder)
    properties = mappings.get("properties", {})
    _check_query(folder, properties)
    packed: dict[str, str] = {}
    for ref, width, field, copy, option in (
        (encoder, dimensions, VECTOR, PACKED, "with --no-vectors"),
        (image_encoder, image_dimensions, IMAGE_VECTOR, IMAGE_PACKED, "without --image-encoder"),
    ):
        if not ref:
            properties.pop(field, None)
            properties.pop(copy, None)
            continue
        if field not in properties:
            raise InvalidInput(
                f"mappings/product.json has no field {field}, which vectors go into. Put it back "
                f"or index {option}."
            )
        properties[field]["dimension"] = width
        packed[field] = copy
    if not packed:
        for setting in ("knn", "knn.derived_source"):
            settings.get("index", {}).pop(setting, None)
    meta = mappings.setdefault("_meta", {}).setdefault("neuralrank", {})
    meta |= {"encoder": encoder, "dimensions": dimensions, "text_fields": list(PASSAGE_FIELDS)}
    if image_encoder:
        meta |= {"image_encoder": image_encoder, "image_dimensions": image_dimensions}
    # By field: where the same vectors are to be had packed.
    meta["packed_vectors"] = packed
    return {"settings": settings, "mappings": mappings}


def index_like(
    noted: Mapping[str, Any], folder: Path = FOLDER, *, lenient: bool = False
) -> dict[str, Any]:
    """`product_index` for vectors of the kinds that an index has.

    Args:
        noted: `_meta.neuralrank` of its mapping.
        lenient: leave out vectors that the files have no field for; such files say nothing of them.
    """
    fields = (VECTOR, IMAGE_VECTOR)
    known = read(folder / "mappings" / "product.json").get("properties", {}) if lenient else fields
    text, image = (
        str(noted.get(name) or "") if field in known else ""
        for name, field in zip(("encoder", "image_encoder"), fields, strict=True)
    )
    body = product_index(
        text,
        int(noted.get("dimensions") or 0),
        folder,
        image_encoder=image,
        image_dimensions=int(noted.get("image_dimensions") or 0),
    )
    if image and (similarity := noted.get("image_similarity")):
        body["mappings"]["_meta"]["neuralrank"]["image_similarity"] = similarity
    return body


def lexical_query(text: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The product query for what a user typed: `queries/product.json` with the text in it."""
    template = _query_template(folder)
    return {name: filled(value, text) for name, value in template.items()}


def filled(template: Any, text: str) -> Any:
    """A query with the text of a user where the placeholder stands, as a value: no text can change
    the query."""
    if isinstance(template, Mapping):
        return {name: filled(value, text) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, text) for value in template]
    return template.replace(PLACEHOLDER, text) if isinstance(template, str) else template


def pipelines(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The search pipelines, by name."""
    return files(folder / "pipelines")


def ubi_indexes(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Settings and mappings of the UBI indexes, by name."""
    return files(folder / "ubi")


def files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every JSON file of a folder, by its name without ending."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.json"))}


def read(path: Path) -> dict[str, Any]:
    """
    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not a JSON object; the message names the line.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise NotFound(f"The configuration file {path} is missing. Put it back.") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}. Correct it there.") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} must hold a JSON object; it holds a {type(value).__name__}.")
    return value


def _settings(path: Path) -> dict[str, Any]:
    """Settings of an index in one of the forms that OpenSearch takes: `index` and `analysis`.

    Raises:
        InvalidInput: something is said twice.
    """
    index: dict[str, Any] = {}
    analysis: dict[str, Any] = {}
    said = read(path)
    inner = said.pop("index", {})
    if not isinstance(inner, dict):
        raise InvalidInput(f"index of {path} is {inner!r}; it holds settings: make it an object.")
    for name, value in (*said.items(), *inner.items()):
        name = name.removeprefix("index.")
        # Analysis is the one part that may be halved, by its sections.
        parts = value if name == "analysis" else {name: value}
        target = analysis if name == "analysis" else index
        for part, entry in parts.items():
            if part in target:
                raise InvalidInput(
                    f"{path} has {name if name == part else f'{name}.{part}'} twice, below index "
                    "and beside it. Leave one of them."
                )
            target[part] = entry
    return {"index": index, "analysis": analysis} if analysis else {"index": index}


def _check_query(folder: Path, properties: Mapping[str, Any]) -> None:
    """
    Raises:
        InvalidInput: OpenSearch would refuse every search.
    """
    path = folder / "queries" / "product.json"
    if path.is_file() and (mixed := mixed_analyzers(read(path), properties)):
        raise InvalidInput(
            f"combined_fields of {path} asks together fields that analyse queries by one analyzer; "
            f"in mappings/product.json it is {mixed}. Give all of them the same, or ask them apart."
        )


def _with_lists(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Analysis settings with the lists that they name as files beside this one.

    OpenSearch itself would look for the files on every node; so they are where the settings are.
    """
    for section in settings.get("analysis", {}).values():
        for name, part in section.items():
            for path_key, key in _LISTS.items():
                if path_key in part:
                    part[key] = _lines(folder, name, path_key, str(part.pop(path_key)))
    return settings


def _lines(folder: Path, part: str, key: str, name: str) -> list[str]:
    """The lines of a file, without empty ones and comments (#).

    Raises:
        InvalidInput: the path leads out of the folder.
        NotFound: there is no such file.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(
            f"{part}.{key} of settings/product.json is {name!r}; allowed are paths inside {folder}."
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise NotFound(
            f"{part}.{key} of settings/product.json names {name!r}, and {path} is not there. "
            "Make it."
        ) from error
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


@cache
def _query_template(folder: Path) -> Mapping[str, Any]:
    path = folder / "queries" / "product.json"
    template = read(path)
    if PLACEHOLDER not in json.dumps(template):
        raise InvalidInput(
            f'{path} has no "{PLACEHOLDER}", so the query would not depend on what the user '
            "typed. Write it where the text belongs."
        )
    return template
