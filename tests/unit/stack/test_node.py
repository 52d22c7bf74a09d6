import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.stack.artifacts import Plugin, build_plugin, fetch, fingerprint
from neuralrank.stack.node import Node, can_enter, check_space, node_folder
from neuralrank.stack.options import UpOptions, pick_port
from neuralrank.stack.processes import Account, is_alive
from neuralrank.stack.toolchain import Jdk
from neuralrank.stack.versions import VERSIONS

STRANGER = Account("stranger", 54_321, 54_321)
JDK = Jdk(Path("/nowhere"), 21)


def silent(_: str) -> None:
    """Nobody is watching."""


def node(folder: Path) -> Node:
    return Node(folder, None, JDK)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents can all be entered; pytest's own are closed to others."""
    folder = Path("/var/tmp") / f"neuralrank-unit-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_account_needs_every_parent(open_folder: Path) -> None:
    inner = open_folder / "closed" / "home"
    inner.mkdir(parents=True)
    assert can_enter(inner, STRANGER)
    inner.parent.chmod(0o700)
    assert not can_enter(inner, STRANGER)
    assert can_enter(inner, None)
    owner = inner.parent.stat()
    assert can_enter(inner, Account("owner", owner.st_uid, owner.st_gid))


def test_the_node_lives_in_the_home_unless_it_cannot_be_entered(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir()
    assert node_folder(home, STRANGER) == home / "opensearch"
    home.chmod(0o700)
    elsewhere = node_folder(home, STRANGER)
    assert elsewhere.parent == Path("/var/tmp")
    assert re.fullmatch(r"neuralrank-[0-9a-f]{12}", elsewhere.name)
    assert node_folder(home, STRANGER) == elsewhere
    assert node_folder(home, None) == home / "opensearch"


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=1.5 * 1024**3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(Unsupported) as error:
        check_space(tmp_path / "not" / "yet")
    assert "has 1.5 GB free" in str(error.value)
    assert "at least 2 GB" in str(error.value)
    assert "--home FOLDER" in str(error.value)
    free.free = 2 * 1024**3
    check_space(tmp_path)


def test_the_nodes_settings_are_complete(tmp_path: Path) -> None:
    settings = yaml.safe_load(node(tmp_path).settings(9201, 9301, "127.0.0.1:50052"))
    assert settings["http.port"] == 9201
    assert settings["transport.port"] == 9301
    assert settings["neural_rank.endpoint"] == "127.0.0.1:50052"
    assert settings["network.host"] == "127.0.0.1"
    assert settings["path.data"] == str(tmp_path / "data")
    assert not [value for value in settings.values() if "$" in str(value)]


def test_a_node_is_started_anew_when_plugin_heap_or_settings_change(tmp_path: Path) -> None:
    one = node(tmp_path)
    plugin = Plugin(tmp_path / "any.zip", "hash")
    same = one.fingerprint(plugin, "1g", "settings")
    assert same == one.fingerprint(plugin, "1g", "settings")
    assert same != one.fingerprint(Plugin(plugin.zip, "other"), "1g", "settings")
    assert same != one.fingerprint(plugin, "2g", "settings")
    assert same != one.fingerprint(plugin, "1g", "others")


def test_what_is_in_the_downloads_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "opensearch-3.5.0.zip").write_bytes(b"zip")
    said: list[str] = []
    file = fetch("group:opensearch:3.5.0:zip", tmp_path, JDK, said.append)
    assert file == tmp_path / "opensearch-3.5.0.zip"
    assert said == []


def plugin_zip(folder: Path, name: str, version: str) -> Path:
    """A plugin for a version of OpenSearch."""
    given = folder / "plugin.zip"
    with zipfile.ZipFile(given, "w") as content:
        said = f"# a plugin\nname={name}\nopensearch.version={version}\n"
        content.writestr("plugin-descriptor.properties", said)
    return given


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("opensearch-knn", VERSIONS.opensearch, "is plugin opensearch-knn for OpenSearch"),
        ("neural-rank", "2.0.0", f"needed is neural-rank for {VERSIONS.opensearch}"),
    ],
)
def test_another_plugin_is_known_before_a_node_is_stopped_for_it(
    tmp_path: Path, name: str, version: str, words: str
) -> None:
    with pytest.raises(InvalidSettings, match=words):
        build_plugin(tmp_path, JDK, silent, plugin_zip(tmp_path, name, version))
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(InvalidSettings, match="is no plugin of OpenSearch's"):
        build_plugin(tmp_path, JDK, silent, tmp_path / "text.zip")


def test_a_given_plugin_is_known_by_its_content(tmp_path: Path) -> None:
    given = plugin_zip(tmp_path, "neural-rank", VERSIONS.opensearch)
    one = build_plugin(tmp_path, JDK, silent, given)
    with zipfile.ZipFile(given, "a") as content:
        content.writestr("more", "two")
    assert build_plugin(tmp_path, JDK, silent, given).hash != one.hash
    with pytest.raises(InvalidSettings, match=r"--plugin-zip: .* is not a file"):
        build_plugin(tmp_path, JDK, silent, tmp_path / "none.zip")


def test_outside_a_checkout_the_plugin_must_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralrank.stack.artifacts.CHECKOUT", tmp_path)
    with pytest.raises(
        Unsupported, match=rf"--plugin-zip neural-rank-{re.escape(VERSIONS.plugin)}\.zip"
    ):
        build_plugin(tmp_path / "downloads", JDK, silent)


def test_a_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "note.txt").write_text("1")
    before = fingerprint([tmp_path], tmp_path, ".py")
    (tmp_path / "note.txt").write_text("2")
    assert fingerprint([tmp_path], tmp_path, ".py") == before
    (tmp_path / "a.py").write_text("2")
    changed = fingerprint([tmp_path], tmp_path, ".py")
    assert changed != before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert fingerprint([tmp_path], tmp_path, ".py") not in (before, changed)


@pytest.mark.parametrize(
    ("asked", "current", "port"),
    [
        (None, 0, 9200),  # nothing runs: the default
        (None, 9333, 9333),  # as it runs
        (0, 0, 0),  # any free one
        (0, 9333, 9333),  # any free one, and it has one
        (9444, 9333, 9444),
    ],
)
def test_a_port_that_is_not_asked_for_stays(asked: int | None, current: int, port: int) -> None:
    assert pick_port(asked, current, 9200) == port


@pytest.mark.parametrize("heap", ["1", "1gb", "-1g", "0g", "half", ""])
def test_a_heap_that_is_none_is_refused(tmp_path: Path, heap: str) -> None:
    with pytest.raises(InvalidSettings, match="write it as 512m or 2g"):
        UpOptions(home=tmp_path, registry="", heap=heap)


def test_no_path_of_the_user_is_among_the_options_that_a_script_takes_apart(
    tmp_path: Path,
) -> None:
    one = node(tmp_path / "My Projects")
    (one.distribution / "bin").mkdir(parents=True)
    (one.distribution / "config").mkdir()
    (one.folder / "tmp").mkdir()
    script = one.distribution / "bin" / "opensearch"
    script.write_text('#!/bin/sh\ncd $OPENSEARCH_TMPDIR && echo "in $(pwd)"\n')
    script.chmod(0o755)
    log = tmp_path / "log"
    process = one.start(log, "1g", "", "")
    while is_alive(process):
        pass
    assert log.read_text() == f"in {one.folder / 'tmp'}\n"
