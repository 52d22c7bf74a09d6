"""The example data that ships is valid, complete and consistent."""

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from examples import demo
from neuralrank import ubi
from neuralrank.catalogue.product import Product
from neuralrank.opensearch.page import Page

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CATALOGUES = {
    "catalogue/products.jsonl": 115,
    "esci/catalogue.jsonl.gz": 6764,
    "goods_zh/catalogue.jsonl.gz": 1144,
}
# Both languages name a department; together they are one category.
DEPARTMENTS = {
    "computers": ("电脑", "Computers"),
    "phones": ("手机", "Phones"),
    "audio": ("影音", "Audio"),
    "appliances": ("家电", "Home Appliances"),
    "clothing": ("服饰", "Clothing"),
    "shoes": ("鞋靴", "Shoes"),
    "beauty": ("美妆", "Beauty"),
    "food": ("食品", "Food"),
    "books": ("图书", "Books"),
    "sports": ("运动户外", "Sports"),
    "toys": ("玩具", "Toys"),
    "home": ("家居", "Home"),
}


def rows(name: str) -> Iterator[Any]:
    path = EXAMPLES / name
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        yield from map(orjson.loads, lines)


@pytest.fixture(scope="module")
def products() -> dict[str, Product]:
    return {row["id"]: Product.from_row(row) for row in rows("catalogue/products.jsonl")}


@pytest.fixture(scope="module")
def records() -> list[ubi.Record]:
    with (EXAMPLES / "events/ubi.ndjson").open("rb") as lines:
        parsed = list(ubi.parse(lines))
    rejected = [record for record in parsed if isinstance(record, ubi.Rejected)]
    assert not rejected
    return [record for record in parsed if isinstance(record, ubi.Record)]


@pytest.fixture(scope="module")
def events(records: list[ubi.Record]) -> list[ubi.Event]:
    return [ubi.Event.from_row(r.document) for r in records if r.index == ubi.EVENTS_INDEX]


@pytest.mark.parametrize(("name", "count"), CATALOGUES.items())
def test_every_row_of_a_catalogue_is_a_product_and_none_is_there_twice(
    name: str, count: int
) -> None:
    ids = [Product.from_row(row).id for row in rows(name)]
    assert len(ids) == count
    assert len(set(ids)) == count


@pytest.mark.parametrize("folder", ["catalogue", "events", "esci", "goods_zh"])
def test_every_folder_says_what_it_holds(folder: str) -> None:
    assert (EXAMPLES / folder / "README.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("esci/LICENSE", "Apache License"),
        ("goods_zh/LICENSE.litemall", "linlinjava"),
        ("goods_zh/LICENSE.MEP-3M", "ChenDelong1999"),
    ],
)
def test_data_of_others_carries_its_licence(licence: str, says: str) -> None:
    assert says in (EXAMPLES / licence).read_text(encoding="utf-8")


def test_the_example_products_cover_both_languages_and_all_departments(
    products: dict[str, Product],
) -> None:
    languages = Counter(product.language for product in products.values())
    assert set(languages) == {"zh", "en"}
    assert min(languages.values()) >= 45
    for department, names in DEPARTMENTS.items():
        members = [p for p in products.values() if any(name in p.category[:2] for name in names)]
        assert len(members) >= 5, department


def test_example_products_have_distinct_titles_and_the_fields_that_filters_need(
    products: dict[str, Product],
) -> None:
    assert len({product.title for product in products.values()}) == len(products)
    for product in products.values():
        assert product.brand
        assert product.attributes
        assert product.price
        assert product.currency == "USD"
        assert product.in_stock is not None
    assert any(not product.in_stock for product in products.values())


@pytest.mark.parametrize(
    ("item", "brand", "word", "price"),
    [
        ("A", "Apple", "电脑", 1000),
        ("B", "Dell", "电脑", 800),
        ("C", "华为", "手机", 2000),
        ("D", "Apple", "手机", 1200),
    ],
)
def test_the_worked_case_is_in_the_catalogue(
    products: dict[str, Product], item: str, brand: str, word: str, price: float
) -> None:
    product = products[item]
    assert (product.brand, product.price) == (brand, price)
    assert word in product.title


def test_the_worked_case_is_in_the_events(events: list[ubi.Event]) -> None:
    did = {
        user: [
            (event.action_name, event.item_id)
            for event in events
            if event.user == user and event.action_name != "impression"
        ]
        for user in ("A", "B")
    }
    assert did["A"] == [("view", "A"), ("view", "B"), ("purchase", "A")]
    assert did["B"] == [("view", "D"), ("view", "C"), ("purchase", "C")]
    assert {event.user_query for event in events if event.user == "A"} == {"电脑"}
    assert {event.user_query for event in events if event.user == "B"} == {"手机"}


def test_events_name_products_that_exist_by_at_least_eight_users(
    events: list[ubi.Event], products: dict[str, Product]
) -> None:
    assert len({event.user_id for event in events}) >= 8
    assert {event.item_id for event in events} <= set(products)
    assert {event.action_name for event in events} <= set(ubi.ACTIONS)


def test_events_belong_to_a_query_that_showed_their_item_at_their_position(
    records: list[ubi.Record], events: list[ubi.Event]
) -> None:
    queries = {r.document["query_id"]: r.document for r in records if r.index == ubi.QUERIES_INDEX}
    for event in events:
        query = queries[event.query_id]
        assert event.user_query == query["user_query"]
        assert event.ordinal is not None
        assert query["query_response_hit_ids"][event.ordinal - 1] == event.item_id


def test_events_are_loaded_once_however_often_they_are_loaded(records: list[ubi.Record]) -> None:
    ids = [(record.index, record.id) for record in records]
    assert len(set(ids)) == len(ids)


def test_the_demo_gives_more_time_on_a_machine_that_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def slow(_client: object, _index: str, _query: object, options: Any) -> Page:
        asked.append(options)
        notes = [] if "deadline_ms" in options else [{"reason": "deadline", "detail": "profile"}]
        return Page("电脑", "A", 1.0, 0, (), {"degraded": notes})

    monkeypatch.setattr(demo, "ask", slow)
    monkeypatch.setattr("time.sleep", lambda _: None)
    page = demo.settled(None, "examples", {}, {"user_id": "A"})  # type: ignore[arg-type]
    assert page.degraded == []
    assert asked == [{"user_id": "A"}] * 3 + [{"user_id": "A", "deadline_ms": 200}]
