from pathlib import Path

import pytest

from neuralrank.bundle import Bundle, write_bundle
from neuralrank.errors import InvalidBundle, NotFound
from neuralrank.registry import Registry


def test_a_published_bundle_is_found_by_name_and_by_hash(
    tmp_path: Path, encoder_bundle: Bundle
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    assert registry.refs() == []
    published = registry.publish(encoder_bundle)
    assert registry.refs() == [encoder_bundle.ref]
    assert registry.get("tiny-encoder") == registry.get(encoder_bundle.ref) == published
    assert published.path != encoder_bundle.path
    assert [bundle.ref for bundle in registry.list()] == [encoder_bundle.ref]


def test_publishing_twice_changes_nothing(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    first = registry.publish(encoder_bundle)
    before = first.model.stat().st_mtime_ns
    assert registry.publish(encoder_bundle) == first
    assert first.model.stat().st_mtime_ns == before


def test_a_name_gives_the_newest(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    old = registry.publish(encoder_bundle)
    fields = encoder_bundle.manifest.model_dump(exclude={"files", "created"})
    new = registry.publish(write_bundle(encoder_bundle.path, {**fields, "query_prefix": "q: "}))
    assert registry.get("tiny-encoder").ref == new.ref != old.ref
    assert registry.get(old.ref).ref == old.ref


def test_an_unknown_bundle_lists_what_there_is(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    with pytest.raises(NotFound, match=r"neuralrank models add"):
        registry.get("bert")
    registry.publish(encoder_bundle)
    with pytest.raises(NotFound, match=f"There is: {encoder_bundle.ref}"):
        registry.get("bert")


def test_a_damaged_bundle_is_not_given_out(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.publish(encoder_bundle).tokenizer.write_text("{}")
    with pytest.raises(InvalidBundle, match="damaged"):
        registry.get("tiny-encoder")


def test_half_a_publication_is_invisible(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.publish(encoder_bundle)
    leftover = tmp_path / "registry/tiny-encoder/.0123"
    leftover.mkdir()
    (leftover / "manifest.json").write_text("{}")
    assert registry.refs() == [encoder_bundle.ref]


def test_a_remote_registry_is_cached_locally(tmp_path: Path, encoder_bundle: Bundle) -> None:
    registry = Registry("memory://models", cache=tmp_path / "cache")
    published = registry.publish(encoder_bundle)
    assert published.path.is_relative_to(tmp_path / "cache")
    assert registry.get(encoder_bundle.ref).manifest == encoder_bundle.manifest
