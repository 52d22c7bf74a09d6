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
