"""One normal form for every text that a model reads."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.catalogue.product import headline, passage
from neuralrank.text.cleaning import clean

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


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
