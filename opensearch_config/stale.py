"""In what a product index differs from the files, in words, and what each difference needs.

Fields, shards and what analyses documents are fixed once documents are in: that needs a reindex.
What analyses queries only (search analyzers, synonyms) needs a reload: `opensearch_config.renewal`.
Refresh and replicas are set while the index serves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from opensearch_config.differences import differences

__all__ = ["Difference", "Needs", "settable", "stale"]

Needs = Literal["reindex", "reload"]
# Settings that are said once, when an index is made; the second: whether k-NN keeps vectors apart
# from the documents.
_FIXED: Final = ("number_of_shards", "knn.derived_source")
# Those that can be set at any time.
_REFRESH: Final = "refresh_interval"
_REPLICAS: Final = "number_of_replicas"
_EXPAND: Final = "auto_expand_replicas"
# What an analyzer is made of, by the key that names it there and the section that defines it.
_PARTS: Final = {"tokenizer": "tokenizer", "filter": "filter", "char_filter": "char_filter"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of an index from the files."""

    words: str
    needs: Needs

    def __str__(self) -> str:
        return f"{self.words}: needs a {self.needs}"


def stale(
    wanted: Mapping[str, Any], properties: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[Difference]:
    """How an index differs from what it would be if it were made now. What only the index has, such
    as a team's own fields, does not count.

    Args:
        wanted: settings and mappings of `product_index`.
        properties: the fields of the index.
        settings: those below `index`, as OpenSearch gives them.
    """
    fields = wanted["mappings"].get("properties", {})
    found = list(_fields(fields, properties))
    analysis = settings.get("analysis", {})
    for setting in _FIXED:
        value = wanted["settings"].get("index", {}).get(setting)
        if value is not None and setting in settings:
            words = differences(value, settings[setting], setting)
            found += [Difference(each, "reindex") for each in words]
    new = wanted["settings"].get("analysis", {})
    fixed = _closure(new, _index_analyzers(fields) | _index_analyzers(properties))
    for section, parts in new.items():
        for name, part in parts.items():
            needs: Needs = "reindex" if (section, name) in fixed else "reload"
            live = analysis.get(section, {}).get(name)
            path = f"analysis.{section}.{name}"
            if live is None:
                found.append(Difference(f"gains the {section} {name}", needs))
            else:
                found += [Difference(each, needs) for each in differences(part, live, path)]
    return found


def settable(
    wanted: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that an index can get as it is, and in what it differs in them, in words. What
    the files do not name stays.

    Args:
        wanted, settings: as of `stale`.
    """
    named = {
        name: value
        for name, value in wanted["settings"].get("index", {}).items()
        if name in (_REFRESH, _REPLICAS, _EXPAND) and value is not None
    }
    if named.get(_EXPAND, False) not in (False, "false"):
        named.pop(_REPLICAS, None)  # OpenSearch sets the number itself
    elif _REPLICAS in named:
        named[_EXPAND] = False  # else it would do so here
    live = {_EXPAND: "false", **settings}
    return named, tuple(differences(named, live))


def _fields(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[Difference]:
    for name, field in wanted.items():
        if name not in live:
            yield Difference(f"gains a field {name} {_kind(field)}", "reindex")
            continue
        found = live[name]
        for inner, subfield in field.get("fields", {}).items():
            if inner not in found.get("fields", {}):
                yield Difference(f"{name} gains a subfield {inner} {_kind(subfield)}", "reindex")
            else:
                yield from _field(f"{name}.{inner}", subfield, found["fields"][inner])
        yield from _field(name, field, found)


def _field(path: str, wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[Difference]:
    """One field without its subfields."""
    plain = {name: value for name, value in wanted.items() if name != "fields"}
    search = {"search_analyzer": plain.pop("search_analyzer", None)}
    for words in differences(plain, live, path):
        yield Difference(words, "reindex")
    # Without one, queries are analysed as documents are.
    was = live.get("search_analyzer", live.get("analyzer"))
    is_now = search["search_analyzer"] or wanted.get("analyzer")
    if was != is_now:
        yield Difference(f"{path} analyses queries by {was}, the file says {is_now}", "reload")


def _kind(field: Mapping[str, Any]) -> str:
    """ "with analyzer cjk", or "of type keyword"."""
    if analyzer := field.get("analyzer"):
        return f"with analyzer {analyzer}"
    return f"of type {field.get('type', 'object')}"


def _index_analyzers(properties: Mapping[str, Any]) -> set[str]:
    """What analyses documents, by name."""
    names: set[str] = set()
    for field in properties.values():
        for each in (field, *field.get("fields", {}).values()):
            names |= {str(each[key]) for key in ("analyzer", "normalizer") if key in each}
        names |= _index_analyzers(field.get("properties", {}))
    return names


def _closure(analysis: Mapping[str, Any], analyzers: set[str]) -> set[tuple[str, str]]:
    """Analyzers and the parts that they are made of, as section and name."""
    found: set[tuple[str, str]] = set()
    for section in ("analyzer", "normalizer"):
        for name, body in analysis.get(section, {}).items():
            # The index's default analyses every field that names none.
            if name not in analyzers and name != "default":
                continue
            found.add((section, name))
            for key, kind in _PARTS.items():
                named = body.get(key, [])
                parts = [named] if isinstance(named, str) else named
                found |= {(kind, str(part)) for part in parts}
    return found
