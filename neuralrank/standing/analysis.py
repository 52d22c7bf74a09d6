"""What analyzers make of texts, and where a query's tokens meet a product's.

OpenSearch itself analyses (`_analyze`), so what is shown is what is searched.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput

__all__ = [
    "Meeting",
    "TextField",
    "Token",
    "analyse",
    "meet",
    "meetings",
    "parts_of",
    "text_bodies",
    "text_fields",
    "value_of",
]

# Longest text that is analysed: OpenSearch refuses more than 10,000 tokens at once
# (`index.analyze.max_token_count`), and a character gives about one token at most.
MAX_CHARACTERS: Final = 8_000
# What OpenSearch takes where a field names no analyzer.
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class TextField:
    """A text field or subfield of a mapping, such as `title` or `title.zh`."""

    name: str
    # Where its text stands in `_source`: of a subfield, its field.
    source: str
    # Of documents and of queries, by name; "default": the index's.
    analyzer: str
    search_analyzer: str


@dataclass(frozen=True, slots=True)
class Token:
    """`start` and `end` are offsets into the text, in UTF-16 units as OpenSearch counts them."""

    text: str
    position: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Meeting:
    """A query's tokens against one field of a product."""

    field: str
    analyzer: str
    search_analyzer: str
    # The field's text as it was analysed: values of a list by line breaks, a long one cut.
    text: str
    query_tokens: tuple[Token, ...]
    tokens: tuple[Token, ...]
    # Texts of the query's tokens, once each: those that are in the field and those that are not.
    met: tuple[str, ...]
    missed: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Where in `text` the met tokens stand, in characters of Python."""
        found = set(self.met)
        return [
            (_characters(self.text, token.start), _characters(self.text, token.end))
            for token in self.tokens
            if token.text in found
        ]


def text_fields(properties: Mapping[str, Any]) -> list[TextField]:
    """The text fields of a mapping's properties, each before its subfields, in their order."""
    return [_text_field(*one) for one in text_bodies(properties)]


def text_bodies(
    properties: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name and source, as of `TextField`, and what the mapping says of each text field: the
    mapping's own objects."""
    for name, body in properties.items():
        path = f"{prefix}{name}"
        if body.get("type") == "text":
            yield path, path, body
        for inner, subfield in body.get("fields", {}).items():
            if subfield.get("type") == "text":
                yield f"{path}.{inner}", path, subfield
        if body.get("type", "object") in ("object", "nested"):
            yield from text_bodies(body.get("properties", {}), f"{path}.")


def _text_field(name: str, source: str, body: Mapping[str, Any]) -> TextField:
    analyzer = str(body.get("analyzer", _DEFAULT))
    return TextField(name, source, analyzer, str(body.get("search_analyzer", analyzer)))


def parts_of(fields: Iterable[TextField], name: str) -> list[TextField]:
    """A field and its subfields; of a subfield's name, that one.

    Raises:
        InvalidInput: there is no text field of that name.
    """
    every = list(fields)
    found = [field for field in every if name in (field.name, field.source)]
    if not found:
        known = ", ".join(field.name for field in every) or "none"
        raise InvalidInput(f"--field {name!r} is no text field of this index; it has {known}.")
    return found


def analyse(
    client: OpenSearch, index: str, field: TextField, text: str, *, query: bool = False
) -> tuple[Token, ...]:
    """The tokens of a text by a field's analyzer, in order.

    Args:
        query: by the one for queries.
    """
    if not text:
        return ()
    if query and field.search_analyzer != field.analyzer:
        how = {"analyzer": field.search_analyzer}
    else:
        how = {"field": field.name}
    answer = client.indices.analyze(index=index, body={**how, "text": text[:MAX_CHARACTERS]})
    return tuple(
        Token(row["token"], row["position"], row["start_offset"], row["end_offset"])
        for row in answer["tokens"]
    )


def meetings(
    client: OpenSearch,
    index: str,
    fields: Iterable[TextField],
    query: str,
    source: Mapping[str, Any],
) -> list[Meeting]:
    """The query against every field that the product has a value in."""
    found = []
    for field in fields:
        text = value_of(source, field.source)[:MAX_CHARACTERS]
        if text:
            asked = analyse(client, index, field, query, query=True)
            found.append(meet(field, text, asked, analyse(client, index, field, text)))
    return found


def meet(
    field: TextField, text: str, query_tokens: tuple[Token, ...], tokens: tuple[Token, ...]
) -> Meeting:
    """Which of the query's tokens are among a text's."""
    there = {token.text for token in tokens}
    asked = list(dict.fromkeys(token.text for token in query_tokens))
    return Meeting(
        field=field.name,
        analyzer=field.analyzer,
        search_analyzer=field.search_analyzer,
        text=text,
        query_tokens=query_tokens,
        tokens=tokens,
        met=tuple(word for word in asked if word in there),
        missed=tuple(word for word in asked if word not in there),
    )


def value_of(source: Mapping[str, Any], path: str) -> str:
    """A field's text in `_source`, values of a list by line breaks; "" where there is none."""
    value: Any = source.get(path)
    if value is None and "." in path:
        head, _, rest = path.partition(".")
        inner = source.get(head)
        return value_of(inner, rest) if isinstance(inner, Mapping) else ""
    if isinstance(value, list):
        return "\n".join(str(part) for part in value)
    return "" if value is None else str(value)


def _characters(text: str, units: int) -> int:
    """An offset in UTF-16 units as one in characters: 1 unit up to U+FFFF, 2 beyond."""
    count = 0
    for position, character in enumerate(text):
        if count >= units:
            return position
        count += 2 if ord(character) > 0xFFFF else 1
    return len(text)
