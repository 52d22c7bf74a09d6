"""Which language a short text is in, by its script.

Statistical detectors need more text than a query has ("xbox", "65 inch tv"): they call short
English queries Dutch or Polish. The script is sure. Languages of the Latin script are told apart by
the caller, who knows the shop; without that, Latin letters count as English.
"""

import re
from typing import Final

__all__ = ["detect", "to_be_known"]

_HAN: Final = r"\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Kana but の, and but the signs that Chinese texts have, too: ・ in names, ー, and marks of sound.
_KANA: Final = r"\u3040-\u306d\u306f-\u309a\u309d-\u30fa\u30fd-\u30ff\u31f0-\u31ff"
_GREEK: Final = r"\u0370-\u03ff"
# Without × and ÷.
_LATIN: Final = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_SCRIPTS: Final = (
    # Before Han: Japanese and Korean texts mix their own scripts with Han characters. One の alone
    # between two of those is in Chinese names (鲜の每日).
    ("ja", re.compile(rf"[{_KANA}]|(?<![{_HAN}])の|の(?![{_HAN}])|の.*の", re.DOTALL)),
    ("ko", re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")),
    ("zh", re.compile(f"[{_HAN}]")),
    ("ru", re.compile(r"[\u0400-\u052f]")),
    ("ar", re.compile(r"[\u0600-\u06ff\u0750-\u077f]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    # One letter among Latin ones is a unit or a sign: 500 µg, 10 kΩ, α7.
    ("el", re.compile(rf"[{_GREEK}]{{2}}|\A(?=[^{_LATIN}]*\Z)[^{_GREEK}]*[{_GREEK}]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("en", re.compile(f"[{_LATIN}]")),
)


def detect(text: str) -> str:
    """The BCP 47 primary subtag of a text, or "" where it has no letters ("75", "🎁") or those of a
    script that is not known here.

    One character of a script is enough: "iPhone 手机壳" is Chinese. It is not where others write
    that character, too: "vitamin D 25 µg" is not Greek, "克里斯汀・迪奥" not Japanese.
    """
    return next((language for language, script in _SCRIPTS if script.search(text)), "")


def to_be_known(text: str, named: str = "") -> str | None:
    """The language that a model has to know to read a text: the one that its caller names, else
    `detect`'s. None: any will do. What has no letters (a part number, a size, an emoji) a model of
    one language reads as well as another; letters of a script that is not known here are "", which
    no model knows."""
    language = named or detect(text)
    return language if language or any(map(str.isalpha, text)) else None
