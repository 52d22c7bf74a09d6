"""One normal form for every text that a model reads."""

import unicodedata
from itertools import groupby
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuralrank.catalogue.product import headline, passage
from neuralrank.text.cleaning import beginning, beginnings, clean, normal_form

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ASCII = st.text(st.characters(max_codepoint=127))
# Of several scripts, in one and two units of UTF-16; the last seven become several marks, or are
# marks only when they are taken apart.
MARKS = (
    "\u0301\u0323\u0345\u05b0\u064b\u093c\u0e48\u302a\u3099\U000101fd\U0001d165\U0001e94a"
    "\u0344\u0f73\u0f75\u0f81\uff9e\uff9f\u0340"
)
RUNS = st.lists(
    st.tuples(st.text(MARKS, min_size=1, max_size=4), st.integers(1, 60)), min_size=1, max_size=3
).map(lambda parts: "".join(marks * times for marks, times in parts))
# What is between runs: letters, and signs that are removed, so that two runs become one.
MARKED = st.lists(RUNS | st.text("ae\u1ea5\ufdfa \u200b\t\n한", max_size=4), max_size=8).map(
    "".join
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("kettle", "kettle"),
        ("石头 扫地机器人", "石头 扫地机器人"),
        ("title\nbrand", "title\nbrand"),
        ("ＡＢＣ　１２", "ABC 12"),
        ("ﬁne", "fine"),
        ("a\tb\r\nc\x00d\x7f", "a b \ncd"),
        ("ex\u200bam\u00adple", "example"),
        ("\u202eelttek", "elttek"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        # Spelling in Persian and in emoji.
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_a_text_is_brought_to_its_normal_form(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(TEXTS)
def test_what_comes_out_is_nfkc_without_controls_and_stays(text: str) -> None:
    once = clean(text)
    assert unicodedata.is_normalized("NFKC", once)
    assert not any(unicodedata.category(sign) == "Cc" and sign != "\n" for sign in once)
    assert clean(once) == once


def test_every_control_character_is_removed_or_a_blank() -> None:
    controls = [chr(code) for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"]
    assert len(controls) == 65
    assert {clean(f"a{sign}b") for sign in controls if sign != "\n"} == {"ab", "a b"}


def test_products_are_read_in_the_normal_form() -> None:
    row = {"id": "1", "title": "Ｋettle\u200b", "brand": "ＢＯＤＵＭ", "description": "a\x07b"}
    assert headline(row) == "Kettle\nBODUM"
    assert passage(row) == "Kettle\nBODUM\nab"


def longest_run(text: str) -> int:
    """The most combining marks that a normal form has to sort at once."""
    return longest_run_of_marks("".join(unicodedata.normalize("NFKD", sign) for sign in text))


def longest_run_of_marks(text: str) -> int:
    marked = groupby(text, key=lambda sign: unicodedata.combining(sign) != 0)
    return max((len(list(run)) for marks, run in marked if marks), default=0)


@given(MARKED | TEXTS)
@example("a" + "\u0301\u0323" * 1_000)
@example("\u0f73" * 40 + "\u200b" + "\uff9e" * 40)
@example("a" + "\u0344" * 31 + "b" + "\u0301" * 31)
def test_no_text_has_a_run_of_marks_that_takes_long_to_sort(text: str) -> None:
    seen: list[str] = []

    def normalize(form: str, given: str) -> str:
        seen.append(given)
        return unicodedata.normalize(form, given)

    def is_normalized(form: str, given: str) -> bool:
        seen.append(given)
        return unicodedata.is_normalized(form, given)

    # Not by monkeypatch, which is one for all examples.
    with pytest.MonkeyPatch.context() as patch:
        spied = SimpleNamespace(normalize=normalize, is_normalized=is_normalized)
        patch.setattr("neuralrank.text.cleaning.unicodedata", spied)
        beginning(text, 40)
        once = clean(text)
        assert clean(once) == once
    # Two of one mark, and what the letter before is taken apart into.
    assert all(longest_run(given) <= 2 * 30 + 3 for given in seen)
    assert longest_run_of_marks(once) <= 30
    assert unicodedata.is_normalized("NFKC", once)


@given(st.integers(0, 70), st.integers(1, 30), st.sampled_from(MARKS[:12]))
def test_thirty_marks_stay_and_no_more_wherever_they_are(
    before: int, count: int, mark: str
) -> None:
    # One that nothing is composed with.
    text = "-" * before + mark * count + "-"
    assert normal_form(text) == unicodedata.normalize("NFKC", text)
    assert normal_form("-" * before + mark * (30 + count) + "-") == normal_form(
        "-" * before + mark * 30 + "-"
    )


def test_every_sign_that_begins_with_a_mark_counts_as_one() -> None:
    signs = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0])
    ]
    assert len(signs) > 900
    long = {sign for sign in signs if len(normal_form(f"-{sign * 100}-")) != 32}
    assert not long
    # And no other sign ends with many.
    ends = (unicodedata.normalize("NFKD", chr(code)) for code in range(0x110000))
    assert max(longest_run_of_marks(end) for end in ends if len(end) > 1) <= 3


@given(
    TEXTS | MARKED | st.text("e\u0301\u0323\u1100\u1161\u11a8\ufdfaＡ", max_size=400),
    st.integers(1, 150),
)
def test_the_beginning_of_a_text_is_that_of_the_whole_while_it_is_not_all_removed(
    text: str, characters: int
) -> None:
    begun = beginning(text, characters)
    assert len(begun) <= characters
    assert clean(begun) == begun
    # Of a run of marks that goes on in another piece others stay.
    if len(text) <= 4 * characters and longest_run(text) <= 30:
        assert begun == clean(text)[:characters]


@given(st.lists(TEXTS | MARKED | ASCII, max_size=4), st.integers(1, 150))
@example([], 1)
@example(["a", "\u0308b"], 10)
@example(["a\x7f", "b"], 10)
@example(["a\x1f", "b"], 10)
def test_many_beginnings_are_those_of_each_text(texts: list[str], characters: int) -> None:
    assert beginnings(texts, characters) == [beginning(text, characters) for text in texts]


@pytest.mark.parametrize("word", ["kettle ", "水壶", "ＡＢＣ　", "café ", "cafe\u0301 ", "각"])
def test_the_beginning_of_a_long_text_is_that_of_the_whole(word: str) -> None:
    text = unicodedata.normalize("NFD", word) * 1_000
    assert beginning(text, 150) == clean(text)[:150]


def test_a_sign_that_stands_for_many_does_not_make_a_text_longer_than_is_asked_for() -> None:
    assert len(clean("\ufdfa" * 100)) == 1_800
    assert len(beginning("\ufdfa" * 100_000, 150)) == 150


def test_no_more_is_normalised_than_is_kept_and_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def normalize(form: str, given: str) -> str:
        normal = unicodedata.normalize(form, given)
        made.append(len(normal))
        return normal

    monkeypatch.setattr(
        "neuralrank.text.cleaning.unicodedata",
        SimpleNamespace(normalize=normalize, is_normalized=unicodedata.is_normalized),
    )
    assert len(beginning("\ufdfa" * 65_536, 300)) == 300
    # One piece of 64, and that again where pieces are joined.
    assert made == [64 * 18] * 2
