"""HTML, in which shops write descriptions, as text: its words are no words of the product."""

import re
from html import unescape
from html.entities import html5
from typing import Final

__all__ = ["plain_text"]

# Around words or parts of one.
_INLINE: Final = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark q s samp small "
    "span strike strong sub sup time tt u var wbr"
)
# Between texts.
_BREAKING: Final = (
    "address applet area article aside audio base blockquote body br button canvas caption center "
    "col colgroup dd details dir div dl dt embed fieldset figcaption figure footer form frame "
    "frameset h1 h2 h3 h4 h5 h6 head header hr html iframe img input label legend li link main map "
    "menu meta nav noscript object ol optgroup option p param picture pre section select source "
    "summary svg table tbody td template textarea tfoot th thead title tr track ul video"
)
# Names only that HTML has (and Word: o:p), and whole tags: `<3`, `a < b`, `<M>` and `x<y` are text,
# which a parser of HTML would take for broken tags, and all behind them for a part. Nothing looks
# beyond the next `<`, so that it takes a time in proportion to the text's length.
_MARKUP: Final = re.compile(
    rf"""
    <!--.*?(?:-->|\Z)
    | <(?P<hidden>script|style)\b[^<>]*>.*?(?:</(?P=hidden)\s*>|\Z)
    | <!\[CDATA\[ | \]\]> | <!doctype\b[^<>]*>
    | </?(?:(?P<inline>{_INLINE.replace(" ", "|")})|{_BREAKING.replace(" ", "|")}|[ovw]:\w+)
      (?![\w:-])(?:[^<>"']|"[^"<]*"|'[^'<]*')*>
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# With its semicolon: without, `Sound&notes` would have a sign in it.
_ENTITY: Final = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def plain_text(text: str) -> str:
    """The text of HTML, without tags, comments, scripts and styles, and with what entities stand
    for; a line for each paragraph, item or cell. Text without `<` and `&` stays as it is."""
    if "<" in text:
        text, found = _MARKUP.subn(lambda tag: "" if tag["inline"] else "\n", text)
        if found:
            text = "\n".join(filter(None, map(str.strip, text.split("\n"))))
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    name = entity[1]
    known = name.startswith("#") or f"{name};" in html5
    return unescape(entity[0]) if known else entity[0]
