"""What a variant changes in settings and mappings of its index: analyzers, synonyms, the graph."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch.packing import VECTOR
from neuralrank.standing import text_bodies
from opensearch_config.tuning.located import Place
from opensearch_config.tuning.spec import Variant

__all__ = ["Refuse", "changed_index", "merged"]

# Makes the error for a place within the variant.
Refuse = Callable[[Place, str], InvalidInput]

_SYNONYMS: Final = "tune_synonyms"
# The analyzer that reads synonym rules: one that OpenSearch comes with, of the same stems (or
# pairs) as the field's own.
_RULES: Final = {"cjk": "cjk"}
_RULES_OTHERS: Final = "english"
# OpenSearch's `cjk` in its parts, so that a filter can be added.
_CJK: Final = {
    "type": "custom",
    "tokenizer": "standard",
    "filter": ["cjk_width", "lowercase", "cjk_bigram", "english_stop"],
}
_ENGLISH_STOP: Final = {"type": "stop", "stopwords": "_english_"}
# Lucene's scalar quantisation: 7 bits a number in the graph, the whole vectors beside it.
_SQ: Final = {"name": "sq", "parameters": {"bits": 7}}


def changed_index(body: Mapping[str, Any], variant: Variant, refuse: Refuse) -> dict[str, Any]:
    """Settings and mappings of an index with a variant's changes.

    Raises:
        InvalidInput: a field or analyzer is not there, or can't be changed so.
        NotFound: the file of synonyms is missing.
    """
    made = copy.deepcopy(dict(body))
    made["settings"] = merged(made["settings"], variant.settings)
    made["mappings"] = merged(made["mappings"], variant.mappings)
    bodies = text_bodies(made["mappings"].get("properties", {}))
    fields = {name: body for name, _, body in bodies}
    for name, analyzer in variant.analyzers.items():
        if name not in fields:
            raise refuse(
                ("analyzers", name),
                f"there is no such text field; allowed are {', '.join(sorted(fields))}.",
            )
        fields[name]["analyzer"] = analyzer
        fields[name].pop("search_analyzer", None)
    if rules := _rules(variant):
        _with_synonyms(made["settings"], fields, rules)
    _with_graph(made["mappings"].get("properties", {}), variant, refuse)
    return made


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` says, object by object; lists are replaced, null removes."""
    found = dict(base)
    for name, value in over.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            found[name] = merged(found[name], value)
        else:
            found[name] = value
    return found


def _rules(variant: Variant) -> list[str]:
    """Synonym rules, one a line; `#` begins a comment."""
    if variant.synonyms_file is None:
        return list(variant.synonyms)
    try:
        text = variant.synonyms_file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(
            f"Variant {variant.name!r} names the synonyms {variant.synonyms_file}, and there is no "
            "such file."
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _with_synonyms(
    settings: dict[str, Any], fields: Mapping[str, dict[str, Any]], rules: list[str]
) -> None:
    """Queries are analysed with synonyms, documents as they were: each field gets a search analyzer
    that is its own analyzer and the rules."""
    analysis = settings["analysis"] = copy.deepcopy(settings.get("analysis", {}))
    filters, analyzers = analysis.setdefault("filter", {}), analysis.setdefault("analyzer", {})
    for field in fields.values():
        name = str(field.get("analyzer", "standard"))
        own = analyzers.get(name, _CJK if name == "cjk" else None)
        if own is None:
            # One of OpenSearch's own: the rules are read by it, and its tokens are its secret.
            continue
        if name == "cjk":
            filters.setdefault("english_stop", _ENGLISH_STOP)
        reads = _RULES.get(name, _RULES_OTHERS)
        filters[f"{_SYNONYMS}_{reads}"] = {
            "type": "synonym_graph",
            "synonyms": rules,
            "synonym_analyzer": reads,
        }
        wanted = {**own, "filter": [*own.get("filter", []), f"{_SYNONYMS}_{reads}"]}
        analyzers[f"{_SYNONYMS}_{name}"] = wanted
        field["search_analyzer"] = f"{_SYNONYMS}_{name}"


def _with_graph(properties: Mapping[str, Any], variant: Variant, refuse: Refuse) -> None:
    given = [
        name
        for name in ("m", "ef_construction", "quantization", "dimensions")
        if getattr(variant, name) is not None
    ]
    if not given:
        return
    field = properties.get(VECTOR)
    if field is None:
        raise refuse((given[0],), f"the index has no vectors (no field {VECTOR}).")
    method = field.setdefault("method", {})
    parameters = method.setdefault("parameters", {})
    for name in ("m", "ef_construction"):
        if (value := getattr(variant, name)) is not None:
            parameters[name] = value
    if variant.quantization == "sq":
        if method.get("engine") != "lucene":
            raise refuse(
                ("quantization",),
                f"sq is for the engine lucene; the files say {method.get('engine')!r}.",
            )
        parameters["encoder"] = copy.deepcopy(_SQ)
    elif variant.quantization == "none":
        parameters.pop("encoder", None)
    if variant.dimensions is not None:
        field["dimension"] = variant.dimensions
