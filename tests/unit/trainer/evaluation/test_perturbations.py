from random import Random

import pytest

from trainer.evaluation.perturbations import other_script, other_width, typo, word_order


@pytest.mark.parametrize("text", ["wireless mouse", "华为智能手机", "tv stand 55 inch"])
def test_a_typo_is_one_slip(text: str) -> None:
    for seed in range(50):
        changed = typo(text, Random(seed))
        assert changed != text
        assert abs(len(changed) - len(text)) <= 1
        # All but one word is as it was.
        one, two = text.split(), changed.split()
        assert len(one) == len(two)
        assert sum(a != b for a, b in zip(one, two, strict=True)) == 1


@pytest.mark.parametrize("text", ["55", "tv", "电脑", ""])
def test_what_is_too_short_for_a_slip_stays(text: str) -> None:
    assert typo(text, Random(0)) == text


def test_words_change_places() -> None:
    changed = word_order("red shoes women", Random(1))
    assert changed != "red shoes women"
    assert sorted(changed.split()) == ["red", "shoes", "women"]
    assert word_order("shoes", Random(1)) == "shoes"
    assert word_order("a a", Random(1)) == "a a"


def test_chinese_changes_its_script_and_english_does_not() -> None:
    assert other_script("华为手机", Random(0)) == "華爲手機"
    assert other_script("華為手機", Random(0)) == "华为手机"
    assert other_script("phone", Random(0)) == "phone"


def test_width_goes_both_ways() -> None:
    assert other_width("iPhone 15", Random(0)) == "ｉＰｈｏｎｅ　１５"
    assert other_width("ｉＰｈｏｎｅ　１５", Random(0)) == "iPhone 15"
    assert other_width("电脑", Random(0)) == "电脑"
