import pytest

from neuralrank.text.language import detect, to_be_known


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("电脑", "zh"),
        ("iPhone 手机壳", "zh"),
        ("wireless mouse", "en"),
        ("café crème", "en"),
        ("ノートパソコン", "ja"),
        ("日本のノート", "ja"),
        ("노트북", "ko"),
        ("ноутбук", "ru"),
        ("195-50", ""),
        ("Sony α7 IV camera", "en"),
        ("vitamin d 25 µg", "en"),
        ("470 μF capacitor", "en"),
        ("10 kΩ resistor", "en"),
        ("β-carotene", "en"),
        ("φορητός υπολογιστής", "el"),
        ("θήκη iPhone", "el"),
        ("α", "el"),
        ("克里斯汀・迪奥 香水", "zh"),
        ("鲜の每日 酸奶", "zh"),
        ("鲜の每日 ノート", "ja"),
        ("猫の日の本", "ja"),
        ("のり", "ja"),
        ("コーヒー", "ja"),
        ("60×90", ""),
        ("6÷2", ""),
        ("ø 60", "en"),
        ("🎁", ""),
        ("", ""),
    ],
)
def test_the_script_tells_the_language(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    ("text", "named", "language"),
    [
        ("195/65 R15", "", "en"),
        ("195/65 R15", "de", "de"),
        ("电脑", "", "zh"),
        ("தமிழ்", "", ""),
        ("195-50", "", None),
        ("195-50", "de", "de"),
        ("🎁", "", None),
    ],
)
def test_what_has_no_letters_needs_no_language(text: str, named: str, language: str | None) -> None:
    assert to_be_known(text, named) == language


@pytest.mark.parametrize("text", ["α " * 100_000 + "a", "中の" * 100_000, "a×" * 100_000])
def test_a_long_text_is_looked_at_once(text: str) -> None:
    """A pattern that begins anew at each letter would take hours."""
    assert detect(text)
