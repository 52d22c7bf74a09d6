"""The cross-encoder that the package carries."""

from pathlib import Path

import numpy as np
import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.errors import InvalidInput
from neuralrank.models import add, checkpoint
from neuralrank.models.bert_matches import MATCHES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """Loading it checks its golden scores."""
    registry = Registry(str(tmp_path_factory.mktemp("models")))
    return CrossEncoder.load(add(registry, "package:neuralrank"))


def test_it_is_small_and_says_what_it_reads(model: CrossEncoder) -> None:
    assert sum(file.stat().st_size for file in model.bundle.path.iterdir()) < 25e6
    manifest = model.bundle.manifest
    assert manifest.name == "neuralrank-small"
    assert manifest.licence
    assert model.supports("zh")
    assert model.supports("en")
    assert not model.supports("fr")


@pytest.mark.parametrize(
    ("query", "best", "others"),
    [
        (
            "wireless mouse",
            "Logitech M510 Wireless Computer Mouse with USB Receiver",
            ["Mouse pad with wrist rest", "Wireless keyboard", "Stainless steel water bottle"],
        ),
        ("es-lf50", "飞科 ES-LF50 剃须刀 刀头", ["飞科 FS372 剃须刀", "电动牙刷 充电式"]),
        ("保温杯 500ml", "304不锈钢保温杯 500ml 便携", ["玻璃杯 500ml", "电热水壶 1.8L 家用"]),
        ("降噪蓝牙耳机", "头戴式蓝牙耳机 主动降噪", ["手机壳 透明", "蓝牙音箱", "有线键盘"]),
    ],
)
def test_it_puts_what_was_asked_for_first(
    model: CrossEncoder, query: str, best: str, others: list[str]
) -> None:
    scores = model.score(query, [best, *others])
    assert scores.argmax() == 0, dict(zip([best, *others], scores.tolist(), strict=True))


def test_capitals_change_nothing(model: CrossEncoder) -> None:
    texts = ["Logitech M510 Wireless Mouse", "手机壳 IPHONE"]
    lower = model.score("wireless mouse", [text.lower() for text in texts])
    np.testing.assert_allclose(model.score("Wireless MOUSE", texts), lower, atol=1e-5)


def test_a_score_does_not_hang_on_who_shares_the_batch(model: CrossEncoder) -> None:
    texts = ["desk lamp", "蓝牙耳机 " * 30, "x", "", "USB cable, 2 m, braided " * 9]
    together = model.score("usb cable 数据线", texts)
    apart = [float(model.score("usb cable 数据线", [text])[0]) for text in texts]
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_every_registry_gets_the_same_bundle(model: CrossEncoder, tmp_path: Path) -> None:
    again = add(Registry(str(tmp_path / "other")), "package:neuralrank")
    assert again.ref == model.ref


def test_it_is_not_added_as_what_it_is_not(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "other"))
    with pytest.raises(InvalidInput, match="--kind is 'encoder', and package:neuralrank is of"):
        add(registry, "package:neuralrank", kind="encoder")
    assert not registry.refs()


def test_it_can_be_trained_further_and_made_in_float(tmp_path: Path) -> None:
    source = checkpoint("package:neuralrank")
    assert source.head == "score"
    assert source.fields["languages"] == ("zh", "en")
    assert source.weights[MATCHES].shape == (2, 384)
    exact = add(Registry(str(tmp_path)), "package:neuralrank", precision="fp32")
    assert exact.manifest.precision == "fp32"
