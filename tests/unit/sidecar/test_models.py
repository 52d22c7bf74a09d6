"""Following the registry: what is published serves, what is broken is refused."""

from pathlib import Path

import pytest

from neuralrank.bundle import MODEL, Bundle
from neuralrank.errors import NotFound
from neuralrank.registry import Registry
from sidecar.models import Models
from sidecar.serving import State
from tests.unit.conftest import tiny_bundle


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(str(tmp_path / "registry"))


async def test_what_is_published_serves_without_a_restart(
    registry: Registry, encoder_bundle: Bundle, cross_encoder_bundle: Bundle
) -> None:
    models = Models(registry, threads=1)
    await models.refresh()
    assert models.statuses == []
    with pytest.raises(NotFound, match="Served: none"):
        models.serving.encoder()
    held = models.serving
    registry.publish(encoder_bundle)
    registry.publish(cross_encoder_bundle)
    await models.refresh()
    assert models.serving.encoder().ref == encoder_bundle.ref
    assert models.serving.encoder("tiny-encoder").ref == encoder_bundle.ref
    found = models.serving.cross_encoder_for("en")
    assert found is not None
    assert found[0].ref == cross_encoder_bundle.ref
    # Warming has measured what a pair costs.
    assert found[1].estimate(100.0) > 0
    assert models.serving.cross_encoder_for("zh") is None
    assert [(row.state, row.is_default) for row in models.statuses] == [
        (State.SERVING, True),
        (State.SERVING, True),
    ]
    assert held.loaded == {}
    models.close()


async def test_a_damaged_bundle_is_refused_with_its_reason_and_leaves_the_others_serving(
    registry: Registry, encoder_bundle: Bundle, cross_encoder_bundle: Bundle
) -> None:
    registry.publish(encoder_bundle)
    damaged = registry.publish(cross_encoder_bundle)
    with (damaged.path / MODEL).open("ab") as stream:
        stream.write(b"x")
    models = Models(registry, threads=1)
    await models.refresh()
    states = {row.name: row for row in models.statuses}
    assert states["tiny-encoder"].state is State.SERVING
    assert states["tiny-cross-encoder"].state is State.REFUSED
    assert "damaged" in states["tiny-cross-encoder"].reason
    assert models.serving.encoder().ref == encoder_bundle.ref
    models.close()


async def test_a_kind_that_this_version_does_not_know_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish(tiny_bundle(tmp_path / "p", "personal_ranker", name="tiny-ranker"))
    models = Models(registry, threads=1)
    await models.refresh()
    (row,) = models.statuses
    assert row.state is State.REFUSED
    assert "personal_ranker" in row.reason
    models.close()


async def test_of_one_name_the_newest_answers_and_the_older_one_still_serves(
    registry: Registry, tmp_path: Path
) -> None:
    old = registry.publish(
        tiny_bundle(tmp_path / "old", "encoder", created="2026-01-01T00:00:00Z", parent="old")
    )
    new = registry.publish(
        tiny_bundle(tmp_path / "new", "encoder", created="2026-02-01T00:00:00Z", parent="new")
    )
    models = Models(registry, threads=1, default_encoder="tiny-encoder")
    await models.refresh()
    assert models.serving.encoder("tiny-encoder").ref == new.ref
    assert models.serving.encoder(old.ref).ref == old.ref
    assert {row.ref: row.is_default for row in models.statuses} == {old.ref: False, new.ref: True}
    models.close()


async def test_a_registry_that_is_gone_for_a_moment_takes_no_model_away(
    registry: Registry, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(encoder_bundle)
    models = Models(registry, threads=1)
    await models.refresh()

    def gone() -> list[str]:
        raise OSError("the disk is away")

    monkeypatch.setattr(registry, "refs", gone)
    await models.refresh()
    assert models.serving.encoder().ref == encoder_bundle.ref
    models.close()
