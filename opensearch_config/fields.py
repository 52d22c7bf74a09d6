"""The text fields of a mapping, and what a query asks of them together."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["mixed_analyzers", "text_fields"]

_COMBINED: Final = "combined_fields"
_DEFAULT: Final = "standard"


def text_fields(properties: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The text fields and subfields of a mapping, by path; the values are the mapping's own."""
    return dict(_text_fields(properties, ""))


def mixed_analyzers(query: Any, properties: Mapping[str, Any]) -> str:
    """Which fields a query's `combined_fields` asks together though they analyse queries by other
    analyzers, which OpenSearch refuses without a name; "" where there are none.

    Args:
        properties: the fields of the mapping. Fields that it does not have are not looked at.
    """
    known = text_fields(properties)
    for fields in _combined(query):
        names = [str(name).partition("^")[0] for name in fields]
        by_analyzer: dict[str, list[str]] = {}
        for name in names:
            if name in known:
                own = known[name].get("analyzer", _DEFAULT)
                by_analyzer.setdefault(known[name].get("search_analyzer", own), []).append(name)
        if len(by_analyzer) > 1:
            return "; ".join(f"{', '.join(one)} by {name}" for name, one in by_analyzer.items())
    return ""


def _text_fields(properties: Mapping[str, Any], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in properties.items():
        path = f"{above}{name}"
        if field.get("type") == "text":
            yield path, field
        for section in ("fields", "properties"):
            yield from _text_fields(field.get(section, {}), f"{path}.")


def _combined(query: Any) -> Iterator[list[Any]]:
    """The lists of fields of every `combined_fields` clause."""
    if isinstance(query, Mapping):
        for name, value in query.items():
            if name == _COMBINED and isinstance(value, Mapping):
                yield list(value.get("fields", ()))
            else:
                yield from _combined(value)
    elif isinstance(query, list):
        for value in query:
            yield from _combined(value)
