"""Out of disk: one clear answer, and nothing half-written."""

import errno
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from neuralrank.bundles.registry import Registry
from neuralrank.cli import main
from neuralrank.errors import EXIT_CODE, Unsupported
from neuralrank.files.full_disk import out_of_room
from neuralrank.files.whole import whole_file, whole_folder, write_whole
from tests.unit.conftest import tiny_bundle
from tests.unit.room import room_for


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), True),
        (OSError("4096 requested and 512 written"), True),  # NumPy
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),  # safetensors
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (RuntimeError("os error 28 pages"), False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error: Exception, full: bool) -> None:
    assert out_of_room(error) == full


def test_a_file_without_room_is_named_and_not_begun(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    with room_for(1_000), pytest.raises(OSError, match="file") as caught:
        write_whole(tmp_path / "file", b"x" * 5_000)
    assert caught.value.filename == str(tmp_path / "file")
    with (
        room_for(1_000),
        pytest.raises(OSError, match=r"array\.npy"),
        whole_file(tmp_path / "array.npy") as unfinished,
    ):
        np.save(unfinished, np.zeros(10_000))
    assert everything(tmp_path) == {"file": b"old"}


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "folder"
    for content in ("old", "new"):
        with whole_folder(folder) as unfinished:
            (unfinished / content).write_text(content)
    assert everything(folder) == {"new": b"new"}
    with (
        room_for(1_000),
        pytest.raises(OSError, match="below/folder"),
        whole_folder(folder) as unfinished,
    ):
        (unfinished / "half").write_bytes(b"x" * 5_000)
    assert everything(folder.parent) == {"folder": b"", "folder/new": b"new"}


@pytest.mark.parametrize("candidate", [False, True])
def test_what_can_not_be_published_leaves_the_registry_as_it_was(
    tmp_path: Path, candidate: bool
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    first = registry.publish(tiny_bundle(tmp_path / "first", "cross_encoder"))
    second = tiny_bundle(tmp_path / "second", "cross_encoder", licence="MIT")
    before = everything(tmp_path / "registry")
    with room_for(10_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        registry.publish(second, candidate=candidate)
    assert everything(tmp_path / "registry") == before
    registry.publish(second, candidate=candidate)
    assert registry.refs() == sorted([first.ref, second.ref])


def test_a_bundle_that_can_not_be_fetched_is_not_half_there(tmp_path: Path) -> None:
    registry = Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    bundle = tiny_bundle(tmp_path / "bundle", "cross_encoder")
    with room_for(10_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        registry.publish(bundle)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert registry.get(bundle.ref).manifest == bundle.manifest


def test_a_command_says_what_is_full_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle(tmp_path / "bundle", "cross_encoder")
    command = ["models", "add", str(tmp_path / "bundle"), "--registry", str(tmp_path / "registry")]
    monkeypatch.setattr(sys, "argv", ["neuralrank", *command])
    with room_for(10_000), pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == EXIT_CODE[Unsupported]
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert f"No room on the disk for {tmp_path / 'registry'}{os.sep}" in said
    assert os.strerror(errno.EFBIG) in said
    assert "run the same command again" in said
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "file")

    monkeypatch.setattr("neuralrank.cli.app", broken)
    with pytest.raises(PermissionError):
        main()
