import pytest

from neuralrank.language import detect


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
