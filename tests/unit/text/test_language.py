import pytest

from neuralrank.text.language import detect, of_no_language


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
        ("🎁", ""),
        ("", ""),
    ],
)
def test_the_script_tells_the_language(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    ("text", "none"),
    [("195/65 R15", False), ("电脑", False), ("தமிழ்", False), ("195-50", True), ("🎁", True)],
)
def test_what_has_no_letters_is_of_no_language(text: str, none: bool) -> None:
    assert of_no_language(text) is none
