"""Which OpenSearch the stack runs, and which the plugin can be built for."""

from pathlib import Path

import pytest

from neuralrank.errors import Unsupported
from neuralrank.stack.node import check_data
from neuralrank.stack.versions import CHOSEN, VERSIONS, VERSIONS_FILE, fits, read_versions


def test_the_environment_names_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHOSEN, raising=False)
    usual = read_versions()
    assert f"OPENSEARCH_VERSION={usual.opensearch}\n" in VERSIONS_FILE.read_text()
    usual.check()
    monkeypatch.setenv(CHOSEN, "")
    assert read_versions() == usual
    monkeypatch.setenv(CHOSEN, "3.6.0")
    chosen = read_versions()
    assert (chosen.opensearch, chosen.plugin) == ("3.6.0", "3.6.0.0")
    assert chosen.jdk == usual.jdk
    chosen.check()


@pytest.mark.parametrize("named", ["3.6", "latest", "2.19.0", "3.3.1", "4.0.0", "3.6.0-SNAPSHOT"])
def test_a_release_that_the_plugin_does_not_fit_is_refused(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHOSEN, named)
    with pytest.raises(Unsupported) as error:
        read_versions().check()
    assert f"{CHOSEN}: got {named!r}; the plugin can be built for OpenSearch 3.3.2" in str(
        error.value
    )


@pytest.mark.parametrize("version", [None, 3.6, "", "3.6.0.0"])
def test_what_is_no_release_fits_nothing(version: object) -> None:
    assert not fits(version)


@pytest.mark.parametrize("version", ["3.3.2", "3.4.0", "3.5.0", "3.10.1"])
def test_releases_are_compared_by_their_numbers(version: str) -> None:
    assert fits(version)


def node(folder: Path, *versions: str) -> None:
    (folder / "data" / "nodes").mkdir(parents=True)
    for version in versions:
        (folder / f"opensearch-{version}").mkdir()
        (folder / f"opensearch-{version}" / "neuralrank-installed.json").write_text("{}")


def test_data_of_a_newer_node_are_not_given_to_an_older_one(tmp_path: Path) -> None:
    check_data(tmp_path)
    node(tmp_path, "3.3.2", VERSIONS.opensearch)
    check_data(tmp_path)
    node_of = tmp_path / "opensearch-3.99.0"
    node_of.mkdir()
    check_data(tmp_path)  # never whole
    (node_of / "neuralrank-installed.json").write_text("{}")
    with pytest.raises(Unsupported) as error:
        check_data(tmp_path)
    assert f"may be of OpenSearch 3.99.0, which ran there, and {VERSIONS.opensearch} can't" in str(
        error.value
    )
    assert f"{CHOSEN}=3.99.0" in str(error.value)
    (tmp_path / "data").rename(tmp_path / "wiped")
    check_data(tmp_path)
