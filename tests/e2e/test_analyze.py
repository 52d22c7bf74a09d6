"""`neuralrank analyze` on the example shop: what OpenSearch itself makes of texts."""

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import INDEX, Shop, open_shop


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return open_shop(stack)


def test_tokens_of_chinese_and_english_are_shown_for_each_analyzer(shop: Shop) -> None:
    answer = shop.json("analyze", INDEX, "降噪耳机 laptops 16GB", "--field", "title")
    tokens = {
        row["analyzer"]: [token["text"] for token in row["tokens"]] for row in answer["analyzers"]
    }
    assert tokens["product_text"] == ["降", "噪", "耳", "机", "laptop", "16", "gb"]
    assert tokens["cjk"] == ["降噪", "噪耳", "耳机", "laptops", "16gb"]
    done = shop.run("analyze", INDEX, "降噪耳机 laptops")
    assert done.returncode == 0
    assert "降噪 · 噪耳 · 耳机 · laptops" in done.stdout


def test_a_query_meets_a_product_field_by_field(shop: Shop) -> None:
    answer = shop.json("analyze", INDEX, "Apple 电脑 kettle", "--against", "A")
    met = {row["field"]: row["met"] for row in answer["fields"]}
    assert met["title"] == ["appl", "电", "脑"]
    assert met["title.zh"] == ["apple", "电脑"]
    assert met["brand.zh"] == ["apple"]
    assert met["color"] == []
    (title,) = (row for row in answer["fields"] if row["field"] == "title.zh")
    assert title["missed"] == ["kettle"]
    done = shop.run("analyze", INDEX, "Apple 电脑", "--against", "A")
    assert done.returncode == 0
    assert "apple · 电脑" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("no-such-index", "x"), 4, "neuralrank index CATALOGUE"),
        ((INDEX, "x", "--against", "no-such-item"), 4, "no-such-item"),
        ((INDEX, "x", "--field", "price"), 3, "no text field"),
        ((INDEX, " "), 3, "text is empty"),
    ],
)
def test_errors_say_what_to_do(
    shop: Shop, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = shop.run("analyze", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
