"""Every line of the log is JSON, whoever wrote it."""

import json
import logging
import warnings

import pytest

from sidecar.telemetry.logs import configure_logs


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
