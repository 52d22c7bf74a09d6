"""Commands that name no encoder take the same one."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.cli import evaluate_personal
from neuralrank.cli.encoders import default_encoder
from neuralrank.cli.index import load_encoder
from neuralrank.cli.train import dataset
from neuralrank.cli.train import personal as train_personal
from neuralrank.errors import NotFound
from neuralrank.settings import load_settings
from tests.unit.conftest import tiny_bundle


def of_index(_: Path, registry: Registry) -> str:
    return load_encoder(load_settings(registry=registry.url), None).ref


def of_training(_: Path, registry: Registry) -> str:
    return train_personal._encoder(registry, "")(["kettle"]).ref


def of_dataset(_: Path, registry: Registry) -> str:
    assert registry
    items = pa.table({"title": ["kettle"], "text": ["kettle"]})
    found = dataset.finders(items, ["kettle"], "", lambda *_: None)
    assert found.neighbours is not None
    return found.neighbours.encoder.ref


def of_evaluation(folder: Path, registry: Registry) -> str:
    assert registry
    evaluate_personal._content(["kettle"], folder / "cache", evaluate_personal._Terminal())
    (file,) = (folder / "cache").glob("*.npz")
    return file.stem


@pytest.mark.parametrize("taken", [of_index, of_training, of_dataset, of_evaluation])
def test_it_is_the_newest_in_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[Path, Registry], str]
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    monkeypatch.setenv("NEURALRANK_REGISTRY", registry.url)
    monkeypatch.setenv("NEURALRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("neuralrank.stack.ranking.fill_registry", lambda *_: None)
    for name, day in (("z", 1), ("b", 3), ("a", 2)):
        created = f"2026-01-0{day}T00:00:00Z"
        registry.publish(tiny_bundle(tmp_path / name, "encoder", name=name, created=created))
    later = {"created": "2026-01-04T00:00:00Z", "max_tokens": 32}
    registry.publish(tiny_bundle(tmp_path / "c", "encoder", name="b", **later), candidate=True)
    assert taken(tmp_path, registry) == registry.resolve("b")


def test_without_one_it_is_said_what_else_can_be_done(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path))
    with pytest.raises(NotFound, match=r"No encoder is in the registry.*models add.*Or go\.$"):
        default_encoder(registry, otherwise="Or go.")
