"""Copies of a remote registry's bundles, which all processes of a machine share."""

import os
import time
from pathlib import Path

from neuralrank.bundles.cache import BundleCache

DAY = 86_400.0


def made(folder: Path, age: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    at = time.time() - age
    os.utime(folder, (at, at))
    return folder


def test_what_nobody_used_for_a_day_is_deleted_and_half_copies_too(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path)
    old = made(cache.path("a@0123456789ab"), DAY + 60)
    half = made(tmp_path / "a" / ".f00.0123456789ab", DAY + 60)
    begun = made(tmp_path / "a" / ".f11.0123456789ab", 60)
    lately = made(cache.path("a@ba9876543210"), DAY - 60)
    used = made(cache.path("b@0123456789ab"), DAY + 60)
    cache.tidy(["b@0123456789ab", "c@0123456789ab"])
    assert [path.exists() for path in (old, half, begun, lately, used)] == [0, 0, 1, 1, 1]


def test_what_one_process_uses_another_does_not_delete(tmp_path: Path) -> None:
    mine, other = BundleCache(tmp_path), BundleCache(tmp_path)
    read, loaded = "a@0123456789ab", "b@0123456789ab"
    for ref in (read, loaded):
        made(mine.path(ref), 2 * DAY)
    mine.mark([read])
    mine.tidy([loaded])
    other.tidy([])
    assert mine.path(read).exists()
    assert mine.path(loaded).exists()


def test_where_nothing_was_ever_copied_there_is_nothing_to_tidy(tmp_path: Path) -> None:
    BundleCache(tmp_path / "none").tidy(["a@0123456789ab"])
