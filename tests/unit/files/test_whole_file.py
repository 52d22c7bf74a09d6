import errno
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


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST])
@pytest.mark.parametrize("before", [True, False])
def test_of_two_that_write_one_folder_at_a_moment_the_last_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, before: bool
) -> None:
    folder = tmp_path / "folder"
    if before:
        write_whole(folder / "file.txt", "old")
    replace, tries = os.replace, []

    def contended(source: Path, target: Path) -> None:
        if target == folder:
            tries.append(source)
            if len(tries) == 1:
                # Between setting aside and putting there, another writer was first.
                write_whole(folder / "file.txt", "other's")
                raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr("neuralrank.files.whole.os.replace", contended)
    with whole_folder(folder) as unfinished:
        (unfinished / "file.txt").write_text("new")
    assert (folder / "file.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_does_as_well_stays(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def other() -> bool:
        return (folder / "file.txt").read_text() == "other's"

    for written, expected in (("old", "new"), ("other's", "other's")):
        with whole_folder(folder, other) as unfinished:
            (unfinished / "file.txt").write_text("new")
            write_whole(folder / "file.txt", written)
        assert (folder / "file.txt").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


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
