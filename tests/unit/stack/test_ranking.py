"""The sidecar of the stack: what it is started with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli import stack
from neuralrank.cli.commands import app
from neuralrank.stack import State, UpOptions, ranking
from neuralrank.stack.ports import choose_port
from neuralrank.stack.processes import Process


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what sidecars were started; none is."""
    found: list[dict[str, Any]] = []

    def start(command: list[str], **given: Any) -> Process:
        found.append({"command": command, **given})
        return Process(1, 0.0, given["fingerprint"])

    monkeypatch.setattr(ranking, "start", start)
    monkeypatch.setattr(ranking, "wait_until_ready", lambda *_: None)
    monkeypatch.setattr(ranking, "fill_registry", lambda *_: None)
    return found


def test_a_password_is_in_the_environment_of_the_sidecar_alone(
    tmp_path: Path, started: list[dict[str, Any]]
) -> None:
    port = choose_port(0, "nobody", "--none")
    for password in ("secret", "secret", "changed"):
        options = UpOptions(
            home=tmp_path,
            registry="",
            sidecar_port=port,
            opensearch_user="me",
            opensearch_password=password,
        )
        ranking.start_sidecar(options, State(tmp_path, "http://search:9200"), lambda _: None)
        assert password not in f"{options!r} {(tmp_path / 'stack.json').read_text()}"
    assert [one["environment"]["NEURALRANK_OPENSEARCH_PASSWORD"] for one in started] == [
        "secret", "secret", "changed",
    ]  # fmt: skip
    assert not any("secret" in part for one in started for part in one["command"])
    first, again, other = (one["fingerprint"] for one in started)
    assert first == again != other


def test_a_setting_that_the_environment_has_no_more_is_said_once(
    tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = UpOptions(home=tmp_path, registry="", sidecar_port=choose_port(0, "nobody", "--none"))
    said: list[str] = []

    def up(state: State) -> State:
        """The sidecar has died, or it is the first."""
        said.clear()
        return ranking.start_sidecar(options, replace(state, sidecar_process=None), said.append)

    monkeypatch.setenv("NEURALRANK_SIDECAR_HTTP_LISTEN", "127.0.0.1:8080")
    first = up(State(tmp_path, "http://search:9200"))
    again = up(first)
    assert not any("note" in line for line in said)
    monkeypatch.delenv("NEURALRANK_SIDECAR_HTTP_LISTEN")
    without = up(again)
    assert "NEURALRANK_SIDECAR_HTTP_LISTEN" not in started[-1]["environment"]
    assert [line for line in said if line.startswith("note: ")] == [
        "note: the sidecar ran with NEURALRANK_SIDECAR_HTTP_LISTEN, which the environment does "
        "not have now: it starts without. Set it for each `neuralrank up`"
    ]
    up(without)
    assert not any("note" in line for line in said)
    assert "127.0.0.1:8080" not in (tmp_path / "stack.json").read_text()


def test_where_it_listens_on_http_is_known_and_shown(
    tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    del started
    options = UpOptions(home=tmp_path, registry="", sidecar_port=choose_port(0, "nobody", "--none"))
    monkeypatch.setenv("NEURALRANK_SIDECAR_HTTP_LISTEN", "127.0.0.1:1")
    state = ranking.start_sidecar(options, State(tmp_path, "http://127.0.0.1:1"), lambda _: None)
    assert state.sidecar_http == "127.0.0.1:1"
    monkeypatch.setattr(stack, "stack_up", lambda *_: state)
    up = CliRunner().invoke(app, ["up", "--no-config"])
    assert f"{state.sidecar} (gRPC), 127.0.0.1:1 (HTTP)" in up.stdout
    monkeypatch.setenv("NEURALRANK_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["status"])
    assert f"{state.sidecar}, 127.0.0.1:1 (HTTP)" in shown.stdout
    monkeypatch.delenv("NEURALRANK_SIDECAR_HTTP_LISTEN")
    without = ranking.start_sidecar(options, state, lambda _: None)
    assert without.sidecar_http == ""
