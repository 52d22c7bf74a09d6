"""Which catalogues are Chinese, as far as an encoder is chosen by it."""

from collections.abc import Iterator

import pytest

from neuralrank.catalogue.language import is_chinese

ZH, EN = "保温杯 500ml", "Thermos flask"


@pytest.mark.parametrize(
    ("titles", "chinese"),
    [
        ([ZH], True),
        (["iPhone 手机壳", "75 英寸"], True),
        ([ZH] * 19 + [EN], True),
        ([EN] + [ZH] * 19, True),
        ([ZH] * 18 + [EN], False),
        ([ZH] * 19 + ["500", "", "🎁"], True),
        (["鲜の每日 酸奶", "克里斯汀・迪奥 香水"], True),
        ([EN], False),
        (["ノートパソコン 充電器"], False),
        (["500"], False),
        ([], False),
        ([ZH] * 40_000 + [EN] * 1000, True),
        ([ZH] * 40_000 + [EN] * 1001, False),
    ],
)
def test_nearly_all_titles_have_to_be(titles: list[str], chinese: bool) -> None:
    assert is_chinese(titles) is chinese


def test_one_that_is_not_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield EN

    assert not is_chinese(endless())
