"""Which encoder `neuralrank index` and `reencode` take."""

import shutil
from pathlib import Path

import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.cli.index import load_encoder
from neuralrank.errors import NotFound
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


def _registry(folder: Path) -> tuple[Registry, Settings]:
    settings = Settings(registry=str(folder / "registry"))
    return Registry(settings.registry_path), settings
