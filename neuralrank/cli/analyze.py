"""`neuralrank analyze`: the tokens of a text, and where a query's meet a product's."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from opensearchpy import OpenSearch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralrank.cli.json_output import Json, print_json
from neuralrank.console import table_console
from neuralrank.errors import InvalidInput
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.generation import one_index
from neuralrank.settings import load_settings
from neuralrank.standing import (
    Meeting,
    TextField,
    Token,
    analyse,
    meetings,
    parts_of,
    text_fields,
)

__all__ = ["analyze", "mappings_of", "product_source", "show_meetings"]

# The longest text of a field that is printed; JSON has all of it.
_SHOWN: Final = 160


def analyze(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The index or alias.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to analyse.")],
    field: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Only this field and its subfields; or one subfield, such as title.zh.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Take TEXT as a query, and show where it meets this product."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Shows the tokens that each analyzer makes of a text, in any language.

    Example: neuralrank analyze examples "无线降噪耳机 16GB" --field title

    With --against ID: which of the text's tokens, as a query, are in each field of that product,
    and which are not.
    """
    if not text.strip():
        raise InvalidInput("The text is empty. Give one to analyse.")
    with closing(connect(load_settings())) as client:
        fields = text_fields(mappings_of(client, name).get("properties", {}))
        chosen = parts_of(fields, field) if field else fields
        if against is not None:
            source = product_source(client, name, against)
            found = meetings(client, name, chosen, text, source)
            if as_json:
                print_json(
                    {"query": text, "id": against, "fields": [each.json() for each in found]}
                )
                return
            show_meetings(table_console(), found)
            return
        # Fields of one analyzer have the same tokens: shown once.
        rows = [
            (group, kind, tokens)
            for group in _groups(chosen)
            for kind, tokens in _tokens(client, name, group[0], text)
        ]
    if as_json:
        analyzers = [
            {
                "analyzer": group[0].search_analyzer if kind == "query" else group[0].analyzer,
                "fields": [each.name for each in group],
                "used_for": kind,
                "tokens": [asdict(token) for token in tokens],
            }
            for group, kind, tokens in rows
        ]
        print_json({"text": text, "analyzers": analyzers})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("analyzer", "used for", "fields", "tokens"):
        table.add_column(heading, overflow="fold")
    for group, kind, tokens in rows:
        analyzer = group[0].search_analyzer if kind == "query" else group[0].analyzer
        names = ", ".join(each.name for each in group)
        table.add_row(Text(analyzer, "cyan"), kind, Text(names), _words(tokens))
    table_console().print(table)


def mappings_of(client: OpenSearch, name: str) -> dict[str, Any]:
    """The mappings of an index, or of the only one behind an alias.

    Raises:
        NotFound: there is no such index.
        InvalidInput: the name stands for several indexes.
    """
    return dict(one_index(client, name)[1]["mappings"])


def product_source(client: OpenSearch, name: str, item: str) -> dict[str, Any]:
    """A product's `_source` without its vector.

    Raises:
        NotFound: there is no such product.
    """
    answer = client.get(
        index=name, id=item, params={"_source_excludes": "text_vector,text_vector_packed"}
    )
    return dict(answer["_source"])


def show_meetings(out: Console, found: Sequence[Meeting]) -> None:
    """Each field with what met marked, and which of the query's tokens are not in it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("field", "query's tokens", "met", "the field's text"):
        table.add_column(heading, overflow="fold")
    for each in found:
        query = _words(each.query_tokens)
        met = Text(" · ".join(each.met), "green") if each.met else Text("none", "dim")
        text = Text(each.text)
        for start, end in each.places:
            text.stylize("bold green", start, end)
        shown = text[:_SHOWN]
        if len(text) > _SHOWN:
            shown.append(" …")
        table.add_row(Text(each.field, "cyan"), query, met, shown)
    out.print(table)
    if not found:
        out.print("The product has no text in these fields.")


def _groups(fields: Sequence[TextField]) -> list[list[TextField]]:
    groups: dict[tuple[str, str], list[TextField]] = {}
    for field in fields:
        groups.setdefault((field.analyzer, field.search_analyzer), []).append(field)
    return list(groups.values())


def _tokens(
    client: OpenSearch, name: str, field: TextField, text: str
) -> list[tuple[str, tuple[Token, ...]]]:
    """What they are used for, and the tokens: two rows where queries are analysed otherwise."""
    indexed = analyse(client, name, field, text)
    if field.analyzer == field.search_analyzer:
        return [("both", indexed)]
    return [("index", indexed), ("query", analyse(client, name, field, text, query=True))]


def _words(tokens: Sequence[Token]) -> Text:
    """Tokens in order; those at one place (synonyms, parts) with | between them."""
    places: dict[int, list[str]] = {}
    for token in tokens:
        places.setdefault(token.position, []).append(token.text)
    return Text(" · ".join("|".join(words) for words in places.values()))
