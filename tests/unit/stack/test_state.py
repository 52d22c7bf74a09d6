import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.settings import load_settings
from neuralrank.stack.processes import Process
from neuralrank.stack.state import State, locked

ME = psutil.Process()


def make_state(home: Path) -> State:
    return State(
        home=home,
        opensearch_url="http://127.0.0.1:9201",
        sidecar="127.0.0.1:50052",
        sidecar_http="127.0.0.1:8080",
        node_folder=home / "opensearch",
        opensearch_port=9201,
        transport_port=9301,
        sidecar_port=50052,
        heap="1g",
        opensearch_process=Process(ME.pid, ME.create_time(), "a"),
        sidecar_process=Process(ME.pid, ME.create_time() - 3_600, "b"),
        sidecar_settings=("NEURALRANK_SIDECAR_HTTP_LISTEN",),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.save()
    assert State.load(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


def test_what_an_older_version_has_saved_is_loaded(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    older = state.as_json()
    del older["sidecar_settings"]
    state.file.write_text(json.dumps(older))
    assert State.load(tmp_path) == replace(state, sidecar_settings=())


def test_other_commands_find_the_addresses(tmp_path: Path) -> None:
    make_state(tmp_path).save()
    settings = load_settings(home=tmp_path)
    assert settings.opensearch_url == "http://127.0.0.1:9201"
    assert settings.sidecar == "127.0.0.1:50052"


def test_flags_and_environment_go_before_what_up_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    State(tmp_path, "http://127.0.0.1:9201", sidecar="127.0.0.1:50052").save()
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_URL", "http://production:9200")

    named = load_settings(home=tmp_path)
    assert (named.opensearch_url, named.sidecar) == ("http://production:9200", "127.0.0.1:50052")

    flagged = load_settings(home=tmp_path, opensearch_url="http://staging:9200")
    assert flagged.opensearch_url == "http://staging:9200"


def test_without_a_sidecar_other_commands_use_their_default(tmp_path: Path) -> None:
    State(home=tmp_path, opensearch_url="http://127.0.0.1:9201").save()
    assert load_settings(home=tmp_path).sidecar == "127.0.0.1:50051"


def test_nothing_was_started(tmp_path: Path) -> None:
    assert State.load(tmp_path) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff"])
def test_every_command_says_what_to_do_about_a_damaged_state(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "stack.json").write_bytes(text)
    with pytest.raises(InvalidSettings, match="Delete it and run `neuralrank up`"):
        load_settings(home=tmp_path)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a home it would be the current folder, whose data `down --wipe` would then look for."""
    names = [f"NEURALRANK_{name}" for name in ("HOME", "OPENSEARCH_URL", "SIDECAR", "REGISTRY")]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    usual = load_settings()
    for name in names:
        monkeypatch.setenv(name, "")
    assert load_settings() == usual


def test_a_home_that_can_not_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(Unsupported, match="can't be written to"), locked(home, lambda _: None):
            pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"opensearch_url": "http://x"}', "null"])
def test_a_damaged_state_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(InvalidSettings, match="Delete it and run `neuralrank up`"):
        State.load(tmp_path)


def test_processes_that_ended_or_are_others_are_left_out(tmp_path: Path) -> None:
    state = make_state(tmp_path).without_dead()
    assert state.opensearch_process is not None
    assert state.sidecar_process is None


def test_the_printed_form_has_addresses_ids_and_logs(tmp_path: Path) -> None:
    document = json.loads(json.dumps(make_state(tmp_path).as_json()))
    assert document["opensearch_url"] == "http://127.0.0.1:9201"
    assert document["sidecar"] == "127.0.0.1:50052"
    assert document["home"] == str(tmp_path)
    assert document["pids"] == {"opensearch": ME.pid, "sidecar": ME.pid}
    assert document["logs"]["sidecar"] == str(tmp_path / "logs" / "sidecar.log")
    assert document["ports"] == {"opensearch": 9201, "transport": 9301, "sidecar": 50052}


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(InvalidSettings), locked(tmp_path, said.append):
        raise InvalidSettings("any")
    with locked(tmp_path, said.append):
        assert said == []


def test_an_address_with_a_password_from_before_is_read_without_it(tmp_path: Path) -> None:
    State(home=tmp_path, opensearch_url="http://admin:secret@search:9200", external=True).save()
    found = State.load(tmp_path)
    assert found is not None
    found.save()
    assert found.opensearch_url == "http://search:9200"
    assert "secret" not in found.file.read_text()
