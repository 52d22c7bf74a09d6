"""What queries do not want, and what titles say of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.text.exclusions import Exclusions, exclusions
from sidecar.ranking.exclusions import mentions


@pytest.mark.parametrize(
    ("query", "what", "rest"),
    [
        ("toddler water bottle without straw", ["straw"], "toddler water bottle"),
        ("Wine Glasses WITHOUT Stem", ["stem"], "Wine Glasses"),
        ("w/o stem wine glass", ["stem"], "wine glass"),
        ("gift bag without a handle", ["handle"], "gift bag"),
        ("lamp with no cord", ["cord"], "lamp"),
        # Two words that end the phrase are one thing.
        ("swim trunks without mesh liner", ["mesh liner"], "swim trunks"),
        ("bed frame without box spring for kids", ["box spring"], "bed frame for kids"),
        ("bed frame without box spring queen size", ["box spring"], "bed frame queen size"),
        ("water bottle without straw kids", ["straw"], "water bottle kids"),
        ("running shirt without red", ["red"], "running shirt"),
        # Signs of other scripts in an English or a Chinese text.
        ("vitamin c 500 μg without sugar", ["sugar"], "vitamin c 500 μg"),
        ("鲜の每日 酸奶 不加糖", ["糖"], "鲜の每日 酸奶"),
        ("duffel without wheels 30 inch", ["wheels"], "duffel 30 inch"),
        # Of more, models are told neither of the first two.
        ("drain without overflow solid brass", ["overflow"], "drain brass"),
        ("tea without artificial sweetener sachets organic", ["artificial"], "tea sachets organic"),
        ("shampoo without sulfates or parabens", ["sulfates", "parabens"], "shampoo"),
        (
            "soap without sulfates, parabens and silicone for kids",
            ["sulfates", "parabens", "silicone"],
            "soap for kids",
        ),
        (
            "soap without sulfates, parabens, or dyes",
            ["sulfates", "parabens", "dyes"],
            "soap",
        ),
        # What is wanted beside it.
        ("tea without caffeine, green", ["caffeine"], "tea , green"),
        ("bottle, without straw and with handle", ["straw"], "bottle , and with handle"),
        ("snacks without nuts and gluten free", ["nuts"], "snacks and gluten free"),
        ("protein bar without sugar and high fiber", ["sugar"], "protein bar and high fiber"),
        ("bag without zipper without logo", ["zipper", "logo"], "bag"),
        ("胶囊咖啡机水箱不加盖", ["盖"], "胶囊咖啡机水箱"),
        ("不含酒精的洗手液", ["酒精"], "洗手液"),
        ("保温杯 不带盖", ["盖"], "保温杯"),
        ("iPhone 手机壳 不带字", ["字"], "iPhone 手机壳"),
        ("咖啡不加糖不加奶", ["糖", "奶"], "咖啡"),
        ("不含防腐剂的面霜", ["防腐剂"], "面霜"),
        ("面霜 不含防腐剂", ["防腐剂"], "面霜"),
        # Lists.
        ("面霜 不含酒精、香精", ["酒精", "香精"], "面霜"),
        ("面霜 不含防腐剂、酒精或香精", ["防腐剂", "酒精", "香精"], "面霜"),
        ("不含酒精和香精的面霜", ["酒精", "香精"], "面霜"),
        ("咖啡不加糖及不加奶", ["糖", "奶"], "咖啡"),
        ("面霜 不含酒精、不含香精", ["酒精", "香精"], "面霜"),
        ("不含酒精 和 香精 面霜", ["酒精", "香精"], "面霜"),
        ("不含糖的酒和饮料", ["糖"], "酒和饮料"),
        ("果汁 不含糖不含水和盐", ["糖", "水", "盐"], "果汁"),
        ("不含饱和脂肪的饼干", ["饱和脂肪"], "饼干"),
        # Blanks: after what denies, not between a thing and what is wanted.
        ("洗手液 不含 酒精", ["酒精"], "洗手液"),
        ("不含 酒精 洗手液", ["酒精"], "洗手液"),
        ("不含酒精 洗手液", ["酒精"], "洗手液"),
        ("不含酒精 和田玉 香皂", ["酒精"], "和田玉 香皂"),
        ("保溫杯 不帶蓋", ["蓋"], "保溫杯"),
        ("不帶蓋的保溫杯", ["蓋"], "保溫杯"),
        # Both in one query.
        ("保温杯 without straw", ["straw"], "保温杯"),
        ("保温杯 without straw 500ml 大号", ["straw"], "保温杯 500ml 大号"),
        ("保温杯 without straw 大号", ["straw"], "保温杯 大号"),
        ("保温杯 with no 吸管", ["吸管"], "保温杯"),
        ("water bottle without 吸管 large", ["吸管"], "water bottle large"),
        ("shampoo 不含酒精", ["酒精"], "shampoo"),
        ("保温杯 without straw 不带盖", ["straw", "盖"], "保温杯"),
        ("保温杯 without straw or 吸管", ["straw", "吸管"], "保温杯"),
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
        # What is called so, and "no" that is none.
        "no show socks women",
        "no man's sky ps4",
        "non slip shoes",
        "dog treats no chicken",
        "laptop no sound",
        "toner part no tn450",
        "sousou no frieren",
        "suporte celular no carro",
        "wireless mouse",
        # Nothing beside it: a title.
        "without remorse",
        "without",
        "no",
        "with no",
        # Both will do.
        "christmas tree with or without lights",
        "cup with and without lid",
        # The title has to say silverware.
        "silverware storage box without silverware",
        "iphone 11 case without 64",
        "无线鼠标",
        "无糖酸奶",
        # Is there any? And what goes wrong.
        "天猫有没有辣椒咸菜",
        "杯子带不带盖",
        "奶茶含不含糖",
        "杯子帶不帶 蓋",
        # Where a list goes on with what is wanted.
        "不含酒精和保湿面霜",
        "电脑没有声音",
        # Where the thing ends can't be told.
        "不带把手加长款柜子门板",
        "儿童 不带帽羽绒服",
        "工事不要食洗機",
        # Both languages, and an exclusion in neither.
        "no.1 保温杯, 带不带盖",
        "no show 袜子 无线鼠标",
        "圣诞树 with or without 灯",
        "歌曲 without",
        "水筒の without straw",
        # Too many, and too long.
        "bottle without a1 or " + " or ".join(f"thing{chr(97 + n)}" for n in range(9)),
        "bottle without straw " + "very " * 60 + "good",
    ],
)
def test_what_is_not_clearly_an_exclusion_is_none(query: str) -> None:
    found = exclusions(query)
    assert found.what == ()
    assert found.rest == query


def test_other_languages_are_not_read() -> None:
    assert exclusions("boné without logo", "pt").what == ()
    assert exclusions("boné without logo", "en").what == ("logo",)
    assert exclusions("保温杯 不带盖", "ja").what == ()
    assert exclusions("保温杯 without straw", "ja").what == ()
    assert exclusions("보온병 without straw").what == ()


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Bottle with Straw", -1),
        ("Two Straws and a lid", -1),
        ("BPA-Free Bottle with Straw", -1),
        ("Non-Toxic Bottle with Straw", -1),
        ("Bottle without lid, with straw", -1),
        ("Straw Bottle, Free Gift", -1),
        ("Bottle with Time Marker and Straw,BPA Free", -1),
        ("Bottle with Straw & BPA Free", -1),
        ("Straw Bottle, Lid Not Included", -1),
        ("24.0 oz Straw Bottle", -1),
        ("Straw Free Shipping", -1),
        ("Bottle without straw, with 2 straws", -1),
        ("Strawless bottle", 1),
        ("STRAW-FREE cup", 1),
        ("Bottle (no straw)", 1),
        ("Sippy cup without a straw", 1),
        ("Bottle without lid or straw", 1),
        ("Bottle, straw not included", 1),
        ("Bottle, straws sold separately", 1),
        ("Bottle (Straw and Lid Not Included)", 1),
        ("Straw/Lid Sold Separately", 1),
        ("Non-straw lid", 1),
        ("Bottle", 0),
        ("Strawberry bottle", 0),
        # It may be said of either.
        ("Bottle No Spill, Straw Lid", 0),
        ("No Spill Straw Cup", 0),
        ("Zero Waste Straw", 0),
        ("Bottle that never leaks straw", 0),
        # A title is the first line.
        ("Bottle\nwith a straw", 0),
        ("", 0),
    ],
)
def test_what_a_title_says_of_it(title: str, said: int) -> None:
    assert mentions([title], ["straw"]).tolist() == [said]


@pytest.mark.parametrize(
    ("what", "title", "said"),
    [
        ("sulfates", "Shampoo, Sulfate, Paraben & Silicone Free", 1),
        ("sulfates", "Sulfate & Paraben-Free Shampoo", 1),
        ("sulfates", "Shampoo Free of Parabens, Sulfates and Silicones", 1),
        ("sulfates", "Shampoo, No Parabens, Sulfates, or Dyes", 0),
        ("battery", "Drill, Bare Tool (Battery and Charger Not Included)", 1),
        ("batteries", "Drill with Battery", -1),
        ("alcohol", "Beer 0% Alcohol", 1),
        ("alcohol", "Beer 0.0% Alcohol", 1),
        ("alcohol", "Alcohol Removed Wine", 1),
        ("alcohol", "Beer 5.0% Alcohol", -1),
        ("sugar", "Chocolate, 0g Added Sugar", 1),
        ("sugar", "Sugar Free Straw", 1),
        ("underwire", "Non Padded Underwire Bra", 0),
        ("underwire", "No Show Underwire Bra", 0),
        ("underwire", "Underwire Bra", -1),
        ("stem", "Stemless Wine Glass", 1),
        ("erythritol", "Zero Calorie Sugar Alternative, 100% Erythritol", -1),
        ("lids", "Jar with Lid", -1),
        ("糖", "酸奶 不添加蔗糖", 1),
        ("糖", "酸奶 0添加蔗糖", 1),
        ("糖", "0添加剂 糖果", -1),
        ("糖", "酸奶 0蔗糖", 1),
        ("糖", "酸奶 无 蔗糖", 1),
        ("糖", "酸奶 10 糖", -1),
        ("糖", "低糖酸奶", 0),
        ("酒精", "低酒精啤酒", 0),
        # One character may be a part of another word.
        ("糖", "0添加剂糖果", 0),
        ("糖", "红糖酸奶", 0),
        ("盖", "全覆盖钢化膜", 0),
        ("线", "在线课程", 0),
        ("盖", "带盖保温杯", -1),
        ("盖", "保温杯 盖 配件", -1),
        ("盖", "保温杯 不带盖", 1),
        ("线", "有线耳机", -1),
        ("线", "无线耳机", 1),
        ("酒精", "免洗洗手液 含酒精", -1),
        ("酒精", "无酒精洗手液", 1),
        ("酒精", "洗手液 不含任何酒精", 1),
        ("酒精", "面膜 不含香精、酒精", 1),
        ("酒精", "酒精0添加", 1),
        ("酒精", "洗手液", 0),
        ("酒精", "無酒精洗手液", 1),
        ("酒精", "没有酒精的洗手液", 1),
        ("酒精", "洗手液 沒有酒精", 1),
        ("酒精", "有没有酒精 看这里", 0),
        ("酒精", "無添加酒精", 1),
        ("酒精", "酒精 無添加", 1),
        ("酒精", "酒精 无添加剂", -1),
        ("硅油", "无 硅油 洗发水", 1),
        ("乳糖", "牛奶 不含 乳糖", 1),
        ("硅油", "洗发水 硅油（无）", 1),
        ("硅油", "洗发水 硅油：无", 1),
        ("硅油", "洗发水 硅油（无线）", -1),
        ("蓋", "保溫杯 不帶蓋", 1),
    ],
)
def test_what_titles_say_in_other_words(what: str, title: str, said: int) -> None:
    assert mentions([title], [what]).tolist() == [said]


def test_of_two_words_either_is_denied_and_only_both_are_there() -> None:
    titles = ["Trunks with Mesh Liners", "Trunks, no liner", "Trunks without Mesh Lining"]
    assert mentions([*titles, "Mesh trunks", "Trunks with liner"], ["mesh liner"]).tolist() == [
        -1, 1, 1, 0, 0,
    ]  # fmt: skip


def test_one_thing_that_is_there_outweighs_another_that_is_not() -> None:
    titles = ["Sulfate Free Shampoo with Parabens", "Sulfate-Free Shampoo", None]
    assert mentions(titles, ["sulfates", "parabens"]).tolist() == [-1, 1, 0]


words = st.sampled_from(
    ["without", "with", "no", "w/o", "straw", "lids", ",", "or", "and", "a", "", "free", "not",
     "included", "不含", "盖", "的", "不带", "0", "kids", "、", "和", "没有", "酒精", "饱"]
)  # fmt: skip


@given(st.lists(words, max_size=40), st.sampled_from([" ", "", "   "]))
def test_words_of_exclusions_in_any_order_are_read(parts: list[str], blank: str) -> None:
    query = blank.join(parts)
    found = exclusions(query)
    if found.what:
        assert len(found.what) <= 5
        assert found.rest
        # Nothing is made up: what is left are parts of the query, in their order.
        left = iter(query)
        assert all(sign in left for sign in found.rest.replace(" ", ""))
    else:
        assert found.rest == query
    for title in (query, found.rest):
        (said,) = mentions([title], found.what or ["straw"]).tolist()
        assert said in (-1, 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "bottle without straw" + " " * 1_000_000 + "b",
        "bottle without " + "straw, " * 150_000 + "or b",
        "bottle without straw " * 50_000,
        "不含酒精的" * 200_000,
    ],
)
def test_what_is_longer_than_a_query_excludes_nothing_and_of_a_title_the_beginning_is_read(
    text: str,
) -> None:
    """And it takes no time: what would go through all of it over and over would not end here, and
    pytest's timeout says so."""
    assert exclusions(text) == Exclusions((), text)
    assert mentions([text], ["straw", "酒精"]) == mentions([text[:300]], ["straw", "酒精"])


@pytest.mark.parametrize(
    "text",
    [
        "straw, " * 40 + "x",
        "no straw or " * 30,
        "free of a, b, c, " * 20 + "straw",
        "0" * 300,
        "不含" * 150,
        "不含" + "酒精、" * 95,
        "不含" + "酒" * 290,
        "不含" + "酒 和 " * 70,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """There is nothing to assert: of as much text as is read, a regular expression that goes back
    in ever more ways would not end here, and pytest's timeout is what fails."""
    exclusions(text)
    mentions([text], ["straw", "mesh liner", "盖"])
