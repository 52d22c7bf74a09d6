"""Every line of the log is JSON, whoever wrote it."""

import json
import logging
import warnings
from collections import defaultdict

import pytest

from neuralrank.errors import Unauthenticated
from sidecar.access.refusals import Refusals
from sidecar.telemetry.logs import configure_logs
from sidecar.telemetry.seldom import Seldom
from tests.unit.sidecar.parts import Clock


def test_a_librarys_warning_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    # A library that an earlier test imported may have turned it on, for a `showwarning` of then.
    logging.captureWarnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logs("info")
        warnings.warn("this goes\naway", FutureWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"]) == ("WARNING", "py.warnings")
    assert "this goes\naway" in entry["message"]


def test_uvicorns_colours_are_no_part_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    colours = {"color_message": "Started server process [\x1b[36m%d\x1b[0m]"}
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7, extra=colours)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["message"] == "Started server process [7]"
    assert "color_message" not in entry


def test_of_a_warning_of_uvicorns_one_a_second_has_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("info")
    clock = Clock()
    kept = defaultdict(lambda: Seldom(lambda: clock.now))
    monkeypatch.setattr("sidecar.telemetry.logs._ONE_A_SECOND._seldom", kept)
    uvicorn = logging.getLogger("uvicorn.error")
    for seconds in (0.0, 0.2, 0.7, 0.2):
        clock.now += seconds
        uvicorn.warning("Invalid HTTP request received.")
        uvicorn.error("Exception in ASGI application")
    uvicorn.warning("Exceeded concurrency limit.")
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [
        (entry["message"][:7], entry["same_before_unsaid"])
        for entry in found
        if entry["level"] == "WARNING"
    ]
    assert said == [("Invalid", 0), ("Invalid", 2), ("Exceede", 0)]
    assert len(found) == len(said) + 4


def test_of_refused_tokens_one_a_second_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    clock = Clock()
    refusals = Refusals(clock)
    for seconds in (0.0, 0.2, 0.7, 0.1, 0.1, 1.4):
        clock.now += seconds
        refusals.note(Unauthenticated("This token is not known. Send another."), "10.0.0.7")
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [entry["refused_before_unsaid"] for entry in found] == [0, 2, 1]
    assert {(entry["reason"], entry["peer"]) for entry in found} == {
        ("This token is not known", "10.0.0.7")
    }


def test_a_caller_that_hung_up_before_its_answer_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("info")
    grpc = logging.getLogger("grpc._cython.cygrpc")
    method = "/neuralrank.v1.Ranking/Rank"
    grpc.error("ExecuteBatchError raised in core by servicer method [%s]", method)
    grpc.error("Unexpected [%s] raised by servicer method [%s]", "ValueError", method)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"].startswith("Unexpected [ValueError]")
