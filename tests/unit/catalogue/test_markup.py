import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.catalogue.markup import plain_text
from neuralrank.catalogue.product import Product, document, passage


@given(st.text(st.characters(codec="utf-8", exclude_characters="<&")))
def test_text_without_html_stays_as_it_is(text: str) -> None:
    assert plain_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "I <3 tea",
        "a < b and c > d",
        "x<y",
        "sizes <M> to <XL>",
        "1 <= 2",
        "</3",
        "《水壶》 <新款>",
        "R&D by H&M",
        "Sound&notes;",
        "Q&A; tea & milk",
        "a <p without an end",
    ],
)
def test_what_only_looks_like_html_stays(text: str) -> None:
    assert plain_text(text) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p><b>Kettle</b>&nbsp;2 years</p>", "Kettle\xa02 years"),
        ("1.7&#8239;l, 230&#x202f;V &lt;3", "1.7\u202fl, 230\u202fV <3"),
        ("<UL CLASS=x>\n  <LI>fast</LI>\n  <LI>quiet</LI>\n</UL>", "fast\nquiet"),
        ("H<sub>2</sub>O<br/>pure<br>cold", "H2O\npure\ncold"),
        ('<a href="/a" title="a > b">more</a>', "more"),
        ("<td>230</td><td>V</td>", "230\nV"),
        ("a<script>if (1 < 2) { p() }</script >b<style>p{}</style>", "a\nb"),
        ("a<!-- <p>never</p> -->b<!-- no end", "a\nb"),
        ("<![CDATA[<p>Kettle</p>]]>", "Kettle"),
        ("Kettle<o:p></o:p>", "Kettle"),
        ("<p></p>&amp;", "&"),
    ],
)
def test_the_text_of_html(html: str, text: str) -> None:
    assert plain_text(html) == text


@pytest.mark.parametrize(
    "piece", ["<", "<p ", '<p "', "<p '", "<script>", "<!--", "&#", "</", "<a\n"]
)
def test_broken_html_takes_no_longer_than_its_length_says(piece: str) -> None:
    plain_text(piece * 50_000)
    plain_text("<p>" + " " * 200_000 + "x")


def test_tags_of_a_product_are_neither_indexed_nor_read() -> None:
    product = Product.from_row(
        {
            "id": "1",
            "title": "Kettle <b>",
            "description": "<p>Boils <b>fast</b></p>",
            "bullet_points": ["<li>1.7&nbsp;l</li>", "<li>quiet</li>"],
        }
    )
    source = document(product)
    assert source["title"] == "Kettle <b>"
    assert source["description"] == "Boils fast"
    assert source["bullet_points"] == "1.7\xa0l\nquiet"
    assert passage(product) == "Kettle <b>\n1.7 l\nquiet\nBoils fast"
    empty = Product.from_row({"id": "1", "title": "Kettle", "description": "<p>&nbsp;</p>"})
    assert "description" not in document(empty)
