"""Engines on disk: found by all that they depend on, bounded, and never half of one."""

import dataclasses
import logging
import os
import threading
from pathlib import Path

import pytest

from neuralrank.backends.tensorrt.cache import EngineCache, EngineKey

KEY = EngineKey("a" * 64, "tensorrt", "10.6.0", "9.0", "NVIDIA H100", "fp16", "128:1-104-256", 1)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines", 10_000)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_another_value_of_anything_is_another_engine(cache: EngineCache, field: str) -> None:
    cache.put(KEY, b"engine", {})
    value = 2 if field == "converter" else "other"
    other = dataclasses.replace(KEY, **{field: value})
    assert other.digest != KEY.digest
    assert cache.get(other) is None
    assert cache.get(KEY) is not None


def test_what_was_put_is_got_with_what_was_found(cache: EngineCache) -> None:
    cache.put(KEY, b"line\nline\n\x00", {"kendall": 0.99})
    found = cache.get(KEY)
    assert found is not None
    assert found.engine == b"line\nline\n\x00"
    assert found.facts["kendall"] == 0.99
    assert found.facts["compute_capability"] == "9.0"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
        lambda content: content[:0],
        lambda content: b"[]\n" + content,
        lambda content: b"\xff\xfe" + content,
    ],
    ids=["cut", "longer", "one bit", "empty", "no object", "no JSON"],
)
def test_a_damaged_file_is_deleted_and_said(
    cache: EngineCache, damage, caplog: pytest.LogCaptureFixture
) -> None:
    file = cache.put(KEY, b"engine" * 100, {})
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert "damaged; it is deleted and built anew" in caplog.text
    assert not file.exists()
    cache.put(KEY, b"again", {})
    assert cache.get(KEY).engine == b"again"


def test_the_folder_is_bounded_and_what_was_read_longest_ago_goes_first(
    cache: EngineCache,
) -> None:
    keys = [dataclasses.replace(KEY, model=str(number)) for number in range(4)]
    for age, key in enumerate(keys[:3]):
        file = cache.put(key, b"x" * 3_000, {})
        os.utime(file, (age + 1, age + 1))
    # Read: now the newest. The entries are 3,000 and a line each, and three of them fit.
    assert cache.get(keys[0]) is not None
    cache.put(keys[3], b"x" * 3_000, {})
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]


def test_the_newest_stays_however_large(cache: EngineCache) -> None:
    cache.put(dataclasses.replace(KEY, model="small"), b"x", {})
    cache.put(KEY, b"x" * 50_000, {})
    assert cache.get(KEY) is not None
    assert cache.get(dataclasses.replace(KEY, model="small")) is None


def test_what_another_process_is_writing_is_left_alone(cache: EngineCache) -> None:
    writing = cache.put(KEY, b"x", {}).with_name(f".1.{KEY.digest}.engine")
    writing.write_bytes(b"x" * 20_000)
    os.utime(writing, (1, 1))
    cache.put(KEY, b"x", {})
    assert writing.exists()


def test_a_failed_write_leaves_nothing(
    cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(KEY, b"old", {})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        cache.put(KEY, b"new", {})
    assert cache.get(KEY).engine == b"old"
    assert len(list((tmp_path / "engines").iterdir())) == 1


def test_timings_are_shared_by_all_models_of_a_gpu_and_library(cache: EngineCache) -> None:
    cache.put_timings(KEY, b"timings")
    assert cache.timings(dataclasses.replace(KEY, model="b", precision="bf16")) == b"timings"
    assert cache.timings(dataclasses.replace(KEY, version="11.2")) == b""
    assert cache.timings(dataclasses.replace(KEY, compute_capability="8.9")) == b""


def test_one_process_builds_and_the_others_wait(cache: EngineCache) -> None:
    order: list[str] = []

    def second() -> None:
        with cache.building(KEY):
            order.append("second")

    with cache.building(KEY), cache.building(dataclasses.replace(KEY, precision="bf16")):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.05)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
