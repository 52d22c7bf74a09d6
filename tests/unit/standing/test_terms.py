"""What OpenSearch says of a score, read: the shapes are those of OpenSearch 3.5.0."""

from typing import Any

import pytest

from neuralrank.standing import Lexical, Meeting, Token, lexical

FIELDS = "attributes_text brand^2.0 title^4.0"


def weight(what: str, value: float, idf: float | None = 2.0) -> dict[str, Any]:
    inner = [] if idf is None else [{"value": idf, "description": "idf, computed as …"}]
    score = {"value": value, "description": "score(freq=6.0), computed as …", "details": inner}
    return {
        "value": value,
        "description": f"weight({what} in 0), result of:",
        "details": [score],
    }


def total(how: str, *nodes: dict[str, Any], value: float | None = None) -> dict[str, Any]:
    summed = sum(node["value"] for node in nodes) if value is None else value
    return {"value": summed, "description": f"{how}:", "details": list(nodes)}


def met(field: str, *words: str) -> Meeting:
    tokens = tuple(Token(word, place, 0, 0) for place, word in enumerate(words))
    return Meeting(field, "a", "a", " ".join(words), (), tokens, (), ())


def test_a_term_over_several_fields_is_split_by_weight_and_count() -> None:
    node = total(
        "sum of",
        weight(f"CombinedFieldQuery(({FIELDS})(appl))", 3.0),
        total("sum of", weight("CombinedFieldQuery((title.zh^4.0)(电脑))", 1.5)),
    )
    found = lexical(node, [met("title", "appl", "air"), met("brand", "appl"), met("title.zh")])
    assert found.score == 4.5
    assert found.rest == 0.0
    first, second = found.terms
    assert (first.term, first.score, first.idf) == ("appl", 3.0, 2.0)
    # weight × count: 4 × 1 and 2 × 1
    assert [(each.field, each.count) for each in first.fields] == [("title", 1), ("brand", 1)]
    assert [each.share for each in first.fields] == pytest.approx([4 / 6, 2 / 6])
    assert (second.term, second.fields) == ("电脑", ())


def test_a_term_of_one_field_and_synonyms_are_read() -> None:
    node = total(
        "sum of",
        weight("title:kettle", 2.0),
        weight("Synonym(title:laptop title:notebook^0.5)", 1.0),
    )
    meetings = [met("title", "kettle", "notebook", "laptop")]
    first, second = lexical(node, meetings).terms
    assert (first.term, first.fields[0].share) == ("kettle", 1.0)
    assert (second.term, second.fields[0].count) == ("laptop | notebook", 2)


def test_of_alternatives_only_the_best_counts() -> None:
    node = total("max of", weight("title:a", 2.0), weight("brand:a", 5.0), value=5.0)
    assert [(term.score, term.term) for term in lexical(node).terms] == [(5.0, "a")]


def test_what_no_term_accounts_for_is_the_rest() -> None:
    function = {"value": 3.0, "description": "function score, product of:", "details": []}
    found = lexical(total("sum of", weight("title:a", 2.0, idf=None), function))
    assert isinstance(found, Lexical)
    assert (found.score, found.rest, found.terms[0].idf) == (5.0, 3.0, None)
