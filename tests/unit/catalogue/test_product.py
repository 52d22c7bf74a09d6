import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.catalogue.product import PASSAGE_FIELDS, Product, document, headline, passage
from neuralrank.errors import InvalidInput


def test_a_full_row_becomes_a_document() -> None:
    product = Product.from_row(
        {
            "id": 7,
            "title": " Kettle ",
            "category": "Home > Kitchen>Kettles",
            "bullet_points": ["1.7 l", "fast"],
            "brand": "Acme",
            "price": "29.90",
            "in_stock": "true",
            "rating_count": 12,
            "attributes": {
                "capacity_l": 1.7,
                "cordless": True,
                "lamp": False,
                "colours": ["red", 2.0],
            },
            "voltage": 230,
            # As pandas writes whole numbers of a column with gaps.
            "watts": 2200.0,
            "box": {"width": 20, "note": None},
            "description": "",
            "color": None,
        }
    )
    assert document(product) == {
        "id": "7",
        "title": "Kettle",
        "category": ["Home", "Kitchen", "Kettles"],
        "bullet_points": "1.7 l\nfast",
        "brand": "Acme",
        "price": 29.9,
        "in_stock": True,
        "rating_count": 12,
        "attributes": {
            "voltage": 230,
            "watts": 2200,
            "box.width": 20,
            "capacity_l": 1.7,
            "cordless": True,
            "lamp": False,
            "colours": ["red", 2],
        },
        "attributes_text": "230\n2200\n20\n1.7\ncordless\nred, 2",
    }
    # 2200.0 equals 2200, and would be found by neither "2200" nor a rule.
    assert orjson.dumps(document(product)["attributes"]["watts"]) == b"2200"


def test_nulls_and_blanks_cost_no_product() -> None:
    product = Product.from_row(
        {
            "id": "1",
            "title": "保温杯",
            "price": " ",
            "in_stock": "",
            "rating": None,
            "bullet_points": ["好", None, " "],
            "category": ["家居", None, ""],
            "brand": [],
            "attributes": {"颜色": ["红", None, " "], "": None, " ": "", "尺寸": [None]},
            "": "",
            "box": {"": " ", "width": 2},
        }
    )
    assert document(product) == {
        "id": "1",
        "title": "保温杯",
        "bullet_points": "好",
        "category": ["家居"],
        "attributes": {"颜色": ["红"], "box.width": 2},
        "attributes_text": "2\n红",
    }


def test_a_whole_number_that_a_table_holds_as_a_float_is_written_without_decimals() -> None:
    """As Parquet and pandas hold a column of numbers with gaps."""
    row = {"id": 1001.0, "title": 365.0, "brand": 361.0, "color": 7.5, "price": 20.0, "volts": 5.0}
    product = Product.from_row({**row, "rating_count": 3.0, "in_stock": 1.0})
    assert (product.id, product.title, product.brand) == ("1001", "365", "361")
    assert (product.color, product.price, product.attributes) == ("7.5", 20.0, {"volts": 5})
    assert (product.rating_count, product.in_stock) == (3, True)


@pytest.mark.parametrize(
    ("given", "any_left"),
    [(5, True), (0, False), (-2, False), (0.5, True), ("5", True), (" 0 ", False), ("0.0", False),
     (True, True), ("false", False), ("no", False)],
)  # fmt: skip
def test_a_count_in_stock_says_whether_there_is_any(given: object, any_left: bool) -> None:
    product = Product.from_row({"id": "1", "title": "kettle", "in_stock": given})
    assert product.in_stock is any_left


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "id: is missing or empty; it is required; title: is missing"),
        ({"id": "1", "title": ""}, "title: is missing or empty"),
        ({"id": "", "title": "x"}, "id: is missing or empty"),
        ({"id": "1", "title": "  "}, "title: is missing or empty"),
        ({"id": "1", "title": ["x"]}, "title: got ['x']; input should be a valid string"),
        (
            {"id": "1", "title": "x", "price": "cheap"},
            "price: got 'cheap'; input should be a valid number, without currency",
        ),
        (
            {"id": "1", "title": "x", "price": "$61.89"},
            "price: got '$61.89'; input should be a valid number, without currency",
        ),
        (
            {"id": "1", "title": "x", "price": "1,299.00"},
            "price: got '1,299.00'; input should be a valid number, without currency or separators "
            "of thousands, such as 1299.00",
        ),
        (
            {"id": "1", "title": "x", "price": -1},
            "price: got -1; input should be greater than or equal",
        ),
        (
            {"id": "1", "title": "x", "price": math.inf},
            "price: got inf; input should be a finite number",
        ),
        ({"id": "1", "title": "x", "rating_count": 1.5}, "rating_count: got 1.5"),
        (
            {"id": "1", "title": "x", "in_stock": "maybe"},
            "in_stock: got 'maybe'; input should be true or false, or how many there are",
        ),
        ({"id": "1", "title": "x", "category": 3}, "category: got 3; must be a list of strings"),
        ({"id": "1", "title": "x", "attributes": [1]}, "attributes: got [1]; must be an object"),
        (
            {"id": "1", "title": "x", "attributes": {"a": [{}]}},
            "a: got {}; allowed are strings, numbers",
        ),
        ({"id": "1", "title": "x", "attributes": {"a": "y" * 8001}}, "a: has 8001 characters"),
        ({"id": "1", "title": "x", "attributes": {"": "y"}}, "attributes: got 'y' without a name"),
        ({"id": "1", "title": "x", "box": {"": 1}}, "box.: got 1 without a name"),
        ({"id": "1", "title": "x", "volts": math.nan}, "volts: got nan; a number must be finite"),
        ({"id": "é" * 257, "title": "x"}, "input has 514 bytes; at most 512 are allowed"),
        ([1], "row: got [1]; it must be an object with id and title"),
        ("x", "it must be an object"),
    ],
)
def test_a_wrong_row_says_field_and_what_is_allowed(row: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Product.from_row(row)
    assert says in str(caught.value)


def test_of_an_unknown_field_that_is_no_attribute_only_it_is_named() -> None:
    row = {"id": "1", "title": "x", "weight": 3, "tags": [{"name": "new"}]}
    with pytest.raises(InvalidInput) as caught:
        Product.from_row(row)
    assert str(caught.value) == (
        "tags: got {'name': 'new'}; allowed are strings, numbers, booleans and lists of them"
    )


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        Product.from_row({"id": "1", "title": "x", "price": "a", "rating": "b"})
    assert "price:" in str(caught.value)
    assert "rating:" in str(caught.value)


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z")), max_size=60)


@given(
    title=texts.filter(lambda text: text.strip()),
    brand=texts,
    category=st.lists(texts, max_size=3),
    attributes=st.dictionaries(
        st.from_regex(r"[a-z]{1,5}", fullmatch=True),
        st.one_of(texts, st.booleans(), st.integers(0, 99), st.lists(texts, max_size=2)),
        max_size=3,
    ),
    description=texts,
)
def test_a_product_reads_the_same_from_a_row_and_from_the_index(**fields: Any) -> None:
    product = Product.from_row({"id": "1", **fields})
    source = orjson.loads(orjson.dumps(document(product)))
    assert passage(product) == passage({name: source.get(name) for name in PASSAGE_FIELDS})


@pytest.mark.parametrize(
    ("title", "brand", "text"),
    [
        ("Mate 60 手机", "华为", "Mate 60 手机\n华为"),
        ("华为 Mate 60 手机", "华为", "华为 Mate 60 手机"),
        ("HUAWEI Mate 60", "Huawei", "HUAWEI Mate 60"),
        ("水壶", None, "水壶"),
    ],
)
def test_a_headline_is_title_and_brand(title: str, brand: str | None, text: str) -> None:
    product = Product.from_row(
        {"id": "1", "title": title, "brand": brand, "description": "…", "attributes": {"a": 1}}
    )
    assert headline(product) == headline(document(product)) == text


def test_a_passage_says_first_what_it_is() -> None:
    product = Product.from_row(
        {
            "id": "1",
            "title": "华为 Mate 60 手机",
            "brand": "华为",
            "category": ["数码", "手机"],
            "color": "黑色",
            "attributes": {"storage_gb": 256.0, "5g": True},
            "description": "旗舰手机",
        }
    )
    assert passage(product).splitlines() == [
        "华为 Mate 60 手机",
        "数码 > 手机",
        "黑色",
        "storage gb 256; 5g",
        "旗舰手机",
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"brand": ["Apple", "Beats"]}, "kettle\nApple, Beats"),
        ({"category": 17}, "kettle\n17"),
        ({"attributes": [{"name": "color", "value": "red"}]}, "kettle"),
        ({"attributes": "red"}, "kettle"),
        ({"bullet_points": ["fast", "quiet"]}, "kettle\nfast\nquiet"),
    ],
)
def test_a_passage_is_made_of_documents_that_others_wrote(
    fields: dict[str, Any], text: str
) -> None:
    assert passage({"title": "kettle", **fields}) == text


def test_a_long_passage_ends_at_a_word() -> None:
    product = Product.from_row({"id": "1", "title": "kettle", "description": "boils water " * 500})
    text = passage(product, characters=100)
    assert len(text) <= 100
    assert text.endswith(("boils", "water"))
    chinese = Product.from_row({"id": "1", "title": "水壶" * 500})
    assert len(passage(chinese, characters=100)) == 100


@given(
    st.text(st.sampled_from("a b\n水Ａé\u0301\u00ad")),
    st.text(st.sampled_from("a b\n水Ａé\u0301\u00ad")),
    st.integers(10, 60),
)
def test_a_passage_is_the_beginning_of_the_cleaned_whole(
    title: str, description: str, characters: int
) -> None:
    source = {"title": f"kettle {title}"[:characters], "description": description[:characters]}
    whole = passage(source, 100_000)
    cut = whole[:characters]
    space = cut.rfind(" ")
    whole_word = cut[:space] if space > characters - 40 else cut
    assert passage(source, characters) == (whole if len(whole) <= characters else whole_word)


def test_no_more_of_a_long_description_is_cleaned_than_can_be_in_a_passage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def normal_form(text: str) -> str:
        seen.append(len(text))
        return text

    monkeypatch.setattr("neuralrank.text.cleaning.normal_form", normal_form)
    assert len(passage({"title": "水壶", "description": "Ａ" * 131_072}, 1_000)) == 1_000
    assert sum(seen) < 2_500


def test_a_model_reads_of_a_true_attribute_the_name_and_of_a_false_one_nothing() -> None:
    attributes = {"dishwasher_safe": True, "lid": False, "volume": "1.7 l"}
    text = passage({"title": "Kettle", "attributes": attributes})
    assert text == "Kettle\ndishwasher safe; volume 1.7 l"
