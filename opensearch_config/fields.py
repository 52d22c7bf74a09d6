"""What a query asks of the text fields of a mapping together."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from neuralrank.standing import text_fields

__all__ = ["mixed_analyzers"]

_COMBINED: Final = "combined_fields"


def mixed_analyzers(query: Any, properties: Mapping[str, Any]) -> str:
    """Which fields a query's `combined_fields` asks together though they analyse queries by other
    analyzers, which OpenSearch refuses without a name; "" where there are none.

    Args:
        properties: the fields of the mapping. Fields that it does not have are not looked at.
    """
    analyzers = {field.name: field.search_analyzer for field in text_fields(properties)}
    for fields in _combined(query):
        by_analyzer: dict[str, list[str]] = {}
        for name in (str(field).partition("^")[0] for field in fields):
            if name in analyzers:
                by_analyzer.setdefault(analyzers[name], []).append(name)
        if len(by_analyzer) > 1:
            return "; ".join(f"{', '.join(one)} by {name}" for name, one in by_analyzer.items())
    return ""


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
