"""What queries do not want, and what titles say of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ranking.exclusions import exclusions, mentions


@pytest.mark.parametrize(
    ("query", "what", "rest"),
    [
        ("toddler water bottle without straw", ["straw"], "toddler water bottle"),
        ("Wine Glasses WITHOUT Stem", ["stem"], "Wine Glasses"),
        ("w/o stem wine glass", ["stem"], "wine glass"),
        ("gift bag without a handle", ["handle"], "gift bag"),
        ("lamp with no cord", ["cord"], "lamp"),
        ("dog treats no chicken", ["chicken"], "dog treats"),
        # Two words that end the query are one thing; of more, the rest is wanted.
        ("swim trunks without mesh liner", ["mesh liner"], "swim trunks"),
        ("drain without overflow solid brass", ["overflow"], "drain solid brass"),
        ("shampoo without sulfates or parabens", ["sulfates", "parabens"], "shampoo"),
        (
            "soap without sulfates, parabens and silicone for kids",
            ["sulfates", "parabens", "silicone"],
            "soap for kids",
        ),
        ("胶囊咖啡机水箱不加盖", ["盖"], "胶囊咖啡机水箱"),
        ("不含酒精的洗手液", ["酒精"], "洗手液"),
        ("保温杯 不带盖", ["盖"], "保温杯"),
        ("洗发水 没有硅油", ["硅油"], "洗发水"),
    ],
)
def test_what_a_query_excludes(query: str, what: list[str], rest: str) -> None:
    found = exclusions(query)
    assert list(found.what) == what
    assert found.rest == rest


@pytest.mark.parametrize(
    "query",
    [
        "",
        "kettle",
        # What is called so.
        "no show socks women",
        "no man's sky ps4",
        "non slip shoes",
        "wireless mouse",
        # Nothing beside it: a title.
        "without remorse",
        "without",
        "no",
        # The title has to say silverware.
        "silverware storage box without silverware",
        "iphone 11 case without 64",
        "无线鼠标",
        "无糖酸奶",
        # Is there any?
        "天猫有没有辣椒咸菜",
        # Where the thing ends can't be told.
        "不带把手加长款柜子门板",
    ],
)
def test_what_is_not_clearly_an_exclusion_is_none(query: str) -> None:
    found = exclusions(query)
    assert found.what == ()
    assert found.rest == query


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Bottle with Straw", -1),
        ("Two Straws and a lid", -1),
        ("Bottle No Spill, Straw Lid", -1),
        ("Strawless bottle", 1),
        ("STRAW-FREE cup", 1),
        ("Bottle (no straw)", 1),
        ("Sippy cup without a bendy straw", 1),
        ("Bottle, straw not included", 1),
        ("Bottle, straws sold separately", 1),
        ("Bottle without straw, with 2 straws", -1),
        ("Bottle", 0),
        ("Strawberry bottle", 0),
        # A title is the first line.
        ("Bottle\nwith a straw", 0),
        ("", 0),
    ],
)
def test_what_a_title_says_of_it(title: str, said: int) -> None:
    assert mentions([title], ["straw"]).tolist() == [said]


def test_of_two_words_either_is_denied_and_only_both_are_there() -> None:
    titles = ["Trunks with Mesh Liners", "Trunks, no liner", "Mesh trunks", "Trunks with lining"]
    assert mentions(titles, ["mesh liner"]).tolist() == [-1, 1, 0, 0]


def test_one_thing_that_is_there_outweighs_another_that_is_not() -> None:
    titles = ["Sulfate Free Shampoo with Parabens", "Sulfate-Free Shampoo", None]
    assert mentions(titles, ["sulfates", "parabens"]).tolist() == [-1, 1, 0]


def test_chinese_titles() -> None:
    titles = ["免洗洗手液 含酒精", "无酒精洗手液", "洗手液 不含任何酒精", "洗手液"]
    assert mentions(titles, ["酒精"]).tolist() == [-1, 1, 1, 0]


@given(st.text(max_size=200))
def test_any_text_is_a_query_and_what_is_left_is_part_of_it(query: str) -> None:
    found = exclusions(query)
    assert found.rest == query or set(found.rest.split()) <= set(query.split())
    assert bool(found.what) == (found.rest != query)
    assert mentions([query], found.what).shape == (1,)


@given(
    st.lists(
        st.sampled_from(["without", "no", "w/o", "straw", "lids", ",", "or", "不含", "盖", "的"])
    )
)
def test_words_of_exclusions_in_any_order_are_read(words: list[str]) -> None:
    for query in (" ".join(words), "".join(words)):
        found = exclusions(query)
        assert all(found.what)
        assert mentions([query], found.what).tolist()[0] in (-1, 0, 1)
