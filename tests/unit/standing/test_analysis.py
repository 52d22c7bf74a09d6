"""Text fields of a mapping, and where tokens meet, without a cluster."""

from typing import Any, cast

import pytest
from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput
from neuralrank.standing import (
    TextField,
    Token,
    analyse,
    meet,
    meetings,
    parts_of,
    text_fields,
    value_of,
)
from opensearch_config import product_index

TITLE = TextField("title", "title", "product_text", "product_text")


class Analyzer:
    """Stands for a client: splits at spaces, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.indices = self

    def analyze(self, *, index: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append({"index": index, **body})
        tokens, start = [], 0
        for position, word in enumerate(body["text"].split(" ")):
            end = start + len(word)
            tokens.append(
                {"token": word, "position": position, "start_offset": start, "end_offset": end}
            )
            start = end + 1
        return {"tokens": tokens}


def words(*texts: str) -> tuple[Token, ...]:
    return tuple(Token(text, place, 0, 0) for place, text in enumerate(texts))


def test_every_text_field_of_a_product_and_its_subfields_are_found() -> None:
    fields = text_fields(product_index()["mappings"]["properties"])
    assert [field.name for field in fields][:4] == ["title", "title.zh", "brand", "brand.zh"]
    assert fields[1] == TextField("title.zh", "title", "cjk", "cjk")
    assert {"id", "title.keyword", "price", "attributes"}.isdisjoint(f.name for f in fields)


def test_objects_are_looked_into_and_analyzers_have_defaults() -> None:
    fields = text_fields(
        {
            "maker": {"properties": {"name": {"type": "text"}}},
            "title": {"type": "text", "analyzer": "a", "search_analyzer": "b"},
        }
    )
    assert fields == [
        TextField("maker.name", "maker.name", "default", "default"),
        TextField("title", "title", "a", "b"),
    ]


def test_a_name_gives_a_field_with_its_subfields_or_one_subfield() -> None:
    fields = text_fields(product_index()["mappings"]["properties"])
    assert [field.name for field in parts_of(fields, "title")] == ["title", "title.zh"]
    assert [field.name for field in parts_of(fields, "title.zh")] == ["title.zh"]
    with pytest.raises(InvalidInput, match=r"'price' is no text field.* title, title\.zh"):
        parts_of(fields, "price")


def test_queries_are_analysed_by_the_search_analyzer_where_there_is_one() -> None:
    client = Analyzer()
    other = TextField("title", "title", "product_text", "with_synonyms")
    for field, query in ((TITLE, True), (other, False), (other, True)):
        analyse(cast(OpenSearch, client), "shop", field, "a b", query=query)
    assert client.asked == [
        {"index": "shop", "field": "title", "text": "a b"},
        {"index": "shop", "field": "title", "text": "a b"},
        {"index": "shop", "analyzer": "with_synonyms", "text": "a b"},
    ]


def test_no_text_has_no_tokens_and_asks_nobody() -> None:
    client = Analyzer()
    assert analyse(cast(OpenSearch, client), "shop", TITLE, "") == ()
    assert client.asked == []


def test_tokens_meet_where_both_have_them() -> None:
    found = meet(TITLE, "…", words("red", "kettle", "red"), words("a", "red", "pot"))
    assert (found.met, found.missed) == (("red",), ("kettle",))


def test_places_of_a_meeting_are_characters_also_behind_an_emoji() -> None:
    text = "🫖 teapot red"
    tokens = (Token("teapot", 1, 3, 9), Token("red", 2, 10, 13))  # UTF-16: the emoji is two
    found = meet(TITLE, text, words("red"), tokens)
    ((start, end),) = found.places
    assert text[start:end] == "red"


def test_a_product_meets_only_in_the_fields_that_it_has() -> None:
    brand = TextField("brand.zh", "brand", "cjk", "cjk")
    colour = TextField("color", "color", "cjk", "cjk")
    source = {"title": "steel kettle", "brand": "Kettle & Co"}
    client = cast(OpenSearch, Analyzer())
    found = meetings(client, "shop", [TITLE, brand, colour], "kettle", source)
    assert [(each.field, each.met) for each in found] == [("title", ("kettle",)), ("brand.zh", ())]


@pytest.mark.parametrize(
    ("source", "path", "text"),
    [
        ({"title": "a"}, "title", "a"),
        ({"category": ["a", "b"]}, "category", "a\nb"),
        ({"maker": {"name": "a"}}, "maker.name", "a"),
        ({"maker.name": "a"}, "maker.name", "a"),
        ({"maker": "a"}, "maker.name", ""),
        ({"title": None}, "title", ""),
        ({}, "title", ""),
    ],
)
def test_the_value_of_a_field_is_found_in_a_source(
    source: dict[str, Any], path: str, text: str
) -> None:
    assert value_of(source, path) == text
