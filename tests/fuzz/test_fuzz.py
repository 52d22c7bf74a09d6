"""The short version of `make fuzz`: the same targets, with hypothesis in place of atheris."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import report
from tests.fuzz import __main__ as command
from tests.fuzz.engine import Result, fuzz
from tests.fuzz.openapi import live, probe
from tests.fuzz.targets import TARGETS

# A bundle is loaded for each.
FEW = 30
MANY = 300


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid input with pieces taken out, repeated, and replaced."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 16)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(data[at:end]) * 2),
                st.sampled_from([b"\x00", b"\xff", b"NaN", b"1e999", b'"', b"[[[[", b"\\ud800"]),
            )
        )
        data[at:end] = piece
    return bytes(data)


@pytest.mark.parametrize("name", list(TARGETS))
def test_damaged_input_is_refused_or_read_as_the_contract_says(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(
        max_examples=FEW if name.startswith("bundle") else MANY,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(seeds) | st.binary(max_size=64))
    def once(data: bytes) -> None:
        target.run(data)

    for seed in seeds:
        target.run(seed)
    once()


def test_a_live_server_answers_as_its_openapi_document_says() -> None:
    with live() as url:
        assert probe(url, seconds=0, examples=15) >= 15 * 3


@pytest.mark.parametrize("name", ["grpc-rank"])
def test_the_fuzzer_runs_and_counts(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this Python or platform")
    result = fuzz(name, 1, tmp_path)
    assert (result.crash, result.error) == (None, "")
    assert result.inputs > 1_000


def test_nothing_is_left_among_the_temporary_files(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this Python or platform")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "tests.fuzz", "bundle-manifest", "--seconds", "1"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "found")],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # ONNX Runtime keeps a file of its own there.
    assert {path.name for path in temporary.iterdir()} <= {".ses"}


def test_what_fails_ends_the_command_with_the_line_that_does_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = tmp_path / "grpc-rank.crash-1"
    found = Result("grpc-rank", 7, 1.0, crash, "AssertionError")
    monkeypatch.setattr(command, "fuzz", lambda *_: found)
    with pytest.raises(SystemExit) as caught:
        command.run(["grpc-rank"], 1, tmp_path, None, False)
    assert caught.value.code
    assert f"python -m tests.fuzz grpc-rank --reproduce {crash}" in capsys.readouterr().out


def test_the_file_is_written_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "fuzz", lambda name, *_: Result(name, 7, 1.0))
    for publish in (False, True):
        with pytest.raises(SystemExit) as caught:
            command.run(["grpc-rank", "grpc-encode"], 1, tmp_path / "work", None, publish)
        assert not caught.value.code
        assert (tmp_path / "results").exists() == publish
    written = json.loads((tmp_path / "results/fuzz.json").read_text())
    assert [row["what"] for row in written["rows"]] == ["grpc-rank", "grpc-encode", "all of them"]
    assert written["rows"][-1]["inputs"] == 14
