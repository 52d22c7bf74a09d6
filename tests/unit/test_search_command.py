"""What `neuralrank search`, `recommend` and `similar` send and show, without a cluster."""

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from opensearchpy import OpenSearch
from rich.console import Console
from typer.testing import CliRunner

from neuralrank.cli import results, search
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.opensearch import page as pages
from opensearch_config import product_index


class Answers:
    """Stands for the client: keeps what was sent, gives what it was told."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.all: list[dict[str, Any]] = []

    @property
    def sent(self) -> dict[str, Any]:
        """What was sent last."""
        return self.all[-1]

    def search(self, **request: Any) -> dict[str, Any]:
        self.all.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def answer(*ids: str, ext: dict[str, Any] | None = None) -> dict[str, Any]:
    rows = [
        {"_id": i, "_score": 1 - n / 10, "_source": {"title": f"title {i}", "price": 800.0}}
        for n, i in enumerate(ids)
    ]
    body: dict[str, Any] = {"took": 3, "hits": {"total": {"value": 7}, "hits": rows}}
    return body | ({"ext": {"neural_rank": ext}} if ext is not None else {})


def ask(answers: Answers, options: dict[str, Any] | None = None, **more: Any) -> pages.Page:
    client = cast(OpenSearch, answers)
    return pages.ask(client, "shop", {"match_all": {}}, options, **more)


def test_the_query_goes_through_the_pipeline_with_the_options_beside_it() -> None:
    answers = Answers(answer("A", ext={"reranked": True}))
    page = ask(answers, {"user_id": "A"}, size=5, start=10)
    assert answers.sent["params"] == {"search_pipeline": "neural_rank"}
    assert answers.sent["body"]["ext"] == {"neural_rank": {"user_id": "A"}}
    assert (answers.sent["body"]["from"], answers.sent["body"]["size"]) == (10, 5)
    assert (page.user, page.reranked, page.total) == ("A", True, 7)


def test_lexical_order_is_asked_for_without_pipeline_and_without_options() -> None:
    answers = Answers(answer("A"))
    page = ask(answers, None, pipeline=pages.NO_PIPELINE)
    assert answers.sent["params"] == {"search_pipeline": "_none"}
    assert "ext" not in answers.sent["body"]
    assert page.reranked is False
    assert page.hits[0].json()["parts"] == {}


def test_json_gives_each_hit_its_parts_whatever_order_the_explanation_has() -> None:
    ext = {
        "reranked": True,
        "degraded": [{"reason": "no_user", "detail": "no events"}],
        "results": [
            {"id": "B", "score": 0.9, "relevance": 0.8, "summary": "up 1"},
            {"id": "A", "score": 1.0, "relevance": 0.95, "affinity": 0.5},
        ],
        "dropped": [{"id": "C", "reason": "purchased", "detail": ""}],
        "dropped_count": 1,
    }
    body = ask(Answers(answer("A", "B", ext=ext))).json()
    assert [hit["id"] for hit in body["hits"]] == ["A", "B"]
    assert body["hits"][0]["parts"] == {"relevance": 0.95, "affinity": 0.5}
    assert body["hits"][1]["parts"] == {"relevance": 0.8, "summary": "up 1"}
    assert body["degraded"] == [{"reason": "no_user", "detail": "no events"}]
    assert body["dropped"][0]["id"] == "C"


def test_an_unknown_index_says_how_to_make_one() -> None:
    with pytest.raises(NotFound, match=r"no index .shop.: .* --index shop"):
        ask(Answers(NotFound("no such index [shop].")))


def test_a_missing_pipeline_says_how_to_create_it() -> None:
    with pytest.raises(InvalidInput, match="neuralrank config apply"):
        ask(Answers(InvalidInput("Pipeline neural_rank is not defined.")))


def test_another_refusal_of_opensearch_is_passed_on_as_it_is() -> None:
    with pytest.raises(InvalidInput, match=r"^unknown field$"):
        ask(Answers(InvalidInput("unknown field")))


def test_filters_hold_only_what_was_asked_for() -> None:
    assert search.filters((), False, None, None, False) == {}
    assert search.filters(["color=black", "brand!=Dell"], True, 0, 99.5, True) == {
        "exclude_purchased": True,
        "in_stock_only": True,
        "min_price": 0,
        "max_price": 99.5,
        "attributes": [
            {"name": "color", "values": ["black"], "exclude": False},
            {"name": "brand", "values": ["Dell"], "exclude": True},
        ],
    }


@pytest.mark.parametrize("text", ["", "color", "=black", "color=", "!=x", "color= "])
def test_a_rule_that_cannot_be_read_says_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidInput, match="NAME=VALUE and NAME!=VALUE"):
        search.attribute_rule(text)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (1234.5, "1,234.50 EUR"),
        (0, "0.00 EUR"),
        ("12.90", "12.90 EUR"),
        ([5, "7"], "5, 7 EUR"),
        ({"eur": 5}, "5 EUR"),
        ("[/ask]", "[/ask] EUR"),
        (None, ""),
        ([None, " "], ""),
    ],
)
def test_a_price_of_an_index_that_others_write_is_shown_as_it_is(given: Any, shown: str) -> None:
    answers = Answers(answer("A"))
    cast(dict[str, Any], answers.answer)["hits"]["hits"][0]["_source"] = {
        "title": "kettle", "price": given, "currency": "EUR",
    }  # fmt: skip
    page = ask(answers)
    assert results.price(page.hits[0].source) == shown
    out = Console(file=io.StringIO(), width=200)
    results.show(out, page, explain=False)
    assert shown in cast(io.StringIO, out.file).getvalue()


def test_hits_behind_others_have_their_own_places() -> None:
    out = Console(file=io.StringIO(), width=200)
    results.show(out, ask(Answers(answer("A", "B"))), explain=False, start=10)
    lines = cast(io.StringIO, out.file).getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["11", "12"]


def test_crossed_prices_are_refused() -> None:
    with pytest.raises(InvalidInput, match="--min-price 20 is above --max-price 10"):
        search.filters((), False, 20, 10, False)


def test_a_page_beyond_what_opensearch_serves_is_refused() -> None:
    with pytest.raises(InvalidInput, match="10,000"):
        search.check_window(9_995, 10)


def test_an_empty_query_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInput, match="query is empty"):
        search.search("shop", "  ")


@pytest.mark.parametrize("arguments", [["similar", "shop", ""], ["recommend", " ", "-u", "B"]])
def test_an_empty_name_is_refused_before_anything_is_sent(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InvalidInput)
    assert "give that of an index, or the id of an item" in str(done.exception)


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the commands speak to: an index of ours."""

    class Catalogue(Answers):
        @property
        def indices(self) -> Any:
            return self

        def get_mapping(self, index: str) -> dict[str, Any]:
            return {index: product_index()}

        def get(self, **_: Any) -> None: ...

        def close(self) -> None: ...

    answers = Catalogue(answer("A", ext={"reranked": True}))
    monkeypatch.setattr(search, "connect", lambda _: answers)
    return answers


@pytest.mark.parametrize(
    "arguments",
    [["search", "shop", "tea"], ["recommend", "shop", "-u", "B"], ["similar", "shop", "A"]],
)
def test_filters_are_conditions_of_the_query_itself(
    catalogue: Answers, arguments: list[str]
) -> None:
    found = CliRunner().invoke(app, [*arguments, "--filter", "brand=Nike", "--max-price", "9"])
    assert found.exit_code == 0, found.output
    body = catalogue.sent["body"]
    clauses = body["query"]["bool"]["filter"]
    assert len(clauses) == 2
    assert "brand.keyword" in str(clauses)
    bought = {"exclude_purchased": True}
    left = bought if arguments[0] == "recommend" else None
    assert body["ext"]["neural_rank"].get("filters") == left


def test_pages_side_by_side_have_the_same_conditions(catalogue: Answers) -> None:
    found = CliRunner().invoke(app, ["search", "shop", "tea", "--in-stock", "--compare"])
    assert found.exit_code == 0, found.output
    first, *others = (request["body"]["query"] for request in catalogue.all)
    assert first["bool"]["filter"]
    assert others == [first, first]


def test_what_looks_like_a_photo_is_looked_for_among_what_meets_the_conditions(
    catalogue: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Encodes:
        @classmethod
        def of(cls, _: object) -> Any:
            return nullcontext(cls())

        def encode(self, **_: Any) -> list[Any]:
            return [np.ones(2, np.float32)]

    monkeypatch.setattr(search, "Client", Encodes)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    found = CliRunner().invoke(app, ["look", "shop", str(photo), "--in-stock"])
    assert found.exit_code == 0, found.output
    near = catalogue.sent["body"]["query"]["knn"]["image_vector"]
    assert "in_stock" in str(near["filter"])
    # Nothing is left to leave out, so that nearness alone orders them.
    assert catalogue.sent["params"] == {"search_pipeline": "_none"}


def shown(render: Any, width: int = 120) -> str:
    out = Console(file=io.StringIO(), width=width)
    render(out)
    return cast(io.StringIO, out.file).getvalue()


def test_a_page_is_shown_with_its_reasons_and_what_was_dropped() -> None:
    ext = {
        "reranked": True,
        "results": [{"id": "A", "relevance": 0.5, "summary": "up 2: fits the user"}],
        "dropped": [{"id": "C", "reason": "price_range", "detail": "price 2000 is above 1500"}],
    }
    page = ask(Answers(answer("A", ext=ext)))
    text = shown(lambda out: results.show(out, page, explain=True))
    assert "up 2: fits the user" in text
    assert "dropped C: price_range (price 2000 is above 1500)" in text
    assert "re-ranked" in text
    assert "800.00" in text


@pytest.mark.parametrize(
    ("query", "scores", "degraded", "state"),
    [
        ("", (1.0, 1.0), ["no_user"], "as found"),
        # Something else has ordered them: an item, a photo, diversity.
        ("", (1.0, 0.9), ["no_user"], "re-ranked"),
        ("kettle", (1.0, 1.0), ["no_user"], "re-ranked"),
        ("", (1.0, 1.0), [], "re-ranked"),
    ],
)
def test_a_page_for_a_user_of_whom_nothing_is_known_is_not_said_to_be_ranked(
    query: str, scores: tuple[float, ...], degraded: list[str], state: str
) -> None:
    notes = [{"reason": reason, "detail": "no events"} for reason in degraded]
    found = answer("A", "B", ext={"reranked": True, "degraded": notes})
    for row, score in zip(found["hits"]["hits"], scores, strict=True):
        row["_score"] = score
    page = ask(Answers(found), {"user_id": "[b]nobody"}, text=query)
    text = shown(lambda out: results.show(out, page, explain=False))
    as_found = "in the order in which they were found (nothing is known of user [b]nobody)"
    assert f"2 of 7 hits, {as_found if state == 'as found' else state}, " in text
    assert ("re-ranked" in text) == (state == "re-ranked")


@pytest.mark.parametrize("explain", [False, True])
def test_a_narrow_terminal_cuts_titles_and_brands_and_no_number(explain: bool) -> None:
    name = "laptop-acer-swift-go"
    parts = {"relevance": 0.743, "affinity": 0.251, "retrieval": 0.998}
    results_of = [{"id": name, **parts, "summary": "up 1"}]
    found = answer(name, ext={"reranked": True, "results": results_of})
    title, brand = "Acer Swift Go 14 Thin and Light Laptop " * 2, "Samsung " * 4
    source = {"title": title, "brand": brand, "price": 1899.0, "currency": "USD"}
    found["hits"]["hits"][0] |= {"_source": source, "_score": 0.857}
    page = ask(Answers(found))
    lines = shown(lambda out: results.show(out, page, explain=explain), 80).split("\n")
    numbers = ["1", "1,899.00 USD", "0.857", *(["0.743", "0.251", "0.998"] if explain else [])]
    assert all(number in lines[1] for number in numbers)
    assert "…" in lines[1]
    assert not lines[2] if explain else "hits" in lines[2]  # one line a hit
    # What other commands take.
    assert name in lines[4 if explain else 1]


def test_of_many_that_were_dropped_the_first_are_named_and_the_others_counted() -> None:
    dropped = [{"id": f"D{n}", "reason": "price_range"} for n in range(50)]
    page = ask(Answers(answer("A", ext={"reranked": True, "dropped": dropped})))
    text = shown(lambda out: results.show(out, page, explain=True))
    assert "dropped D19: price_range" in text
    assert "D20" not in text
    assert "dropped: 30 more; --json names all" in text
    assert len(page.json()["dropped"]) == 50


def test_pages_side_by_side_mark_how_far_each_hit_moved() -> None:
    before = ask(Answers(answer("A", "B", "C")))
    after = ask(Answers(answer("C", "B", "X", ext={"reranked": True})))
    lines = shown(lambda out: results.side_by_side(out, [("x", before), ("y", after)])).split("\n")
    assert "▲2" in lines[1]
    assert "=" in lines[2]
    assert "●" in lines[3]


def test_what_degraded_a_page_is_said_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ext = {"reranked": False, "degraded": [{"reason": "sidecar_unavailable", "detail": "down"}]}
    results.warn_degraded(ask(Answers(answer("A", ext=ext))))
    captured = capsys.readouterr()
    assert captured.err == "neuralrank: degraded (sidecar_unavailable): down\n"
    assert captured.out == ""
