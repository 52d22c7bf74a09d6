import os
from pathlib import Path

import pytest

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.files.exclusive import exclusive
from neuralrank.files.whole import whole_file, whole_folder, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "below" / "file.txt"
    write_whole(file, "电脑\n")
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_a_block_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file.npy"
    write_whole(file, "old")

    def stop() -> None:
        with whole_file(file) as unfinished:
            assert unfinished.suffix == ".npy"
            unfinished.write_text("half")
            assert file.read_text() == "old"
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_stays_where_the_new_one_can_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    with whole_folder(folder) as unfinished:
        (unfinished / "old").write_text("old")
    replace = os.replace

    def busy(source: Path, target: Path) -> None:
        if target == folder and not source.name.endswith(".old"):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr("neuralrank.files.whole.os.replace", busy)
    with pytest.raises(OSError, match="busy"), whole_folder(folder) as unfinished:
        (unfinished / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    lock, busy = tmp_path / "below" / ".lock", InvalidInput("busy")
    with exclusive(lock, busy), pytest.raises(InvalidInput, match="busy"), exclusive(lock, busy):
        pytest.fail("two have it")
    with exclusive(lock, busy):
        pass


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Unsupported, match="can't be written to"),
        exclusive(tmp_path / "file" / ".lock", InvalidInput("busy")),
    ):
        pytest.fail("it was made")
