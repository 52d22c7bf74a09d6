"""A benchmark's file."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import report, sidecar
from bench.report import Report
from tests.faults.account import Account


def test_totals_stand_beside_the_rows_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    rows = [{"what": "a", "n": 1}]
    assert "totals" not in json.loads(Report("plain", "Plain", rows).write().read_text())
    found = json.loads(Report("both", "Both", rows, totals={"n": 1}).write().read_text())
    assert (found["rows"], found["totals"]) == (rows, {"n": 1})


def test_what_an_earlier_run_measured_keeps_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    then = "2026-01-01T00:00:00+00:00"
    written = Report("plain", "Plain", [{"what": "a"}], when=then).write()
    assert json.loads(written.read_text())["when"] == then


def test_what_was_not_measured_is_null_and_no_word_that_json_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    rows = [{"what": "中", "n": float("nan"), "p": np.float64(0.5)}]
    text = Report("plain", "Plain", rows).write().read_text("utf-8")
    assert '"what": "中"' in text
    assert "NaN" not in text
    assert json.loads(text)["rows"] == [{"what": "中", "n": None, "p": 0.5}]


def test_the_parts_of_the_sidecar_keep_where_and_when_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "RESULTS", tmp_path)
    monkeypatch.setattr(
        sidecar, "PARTS", {name: lambda: {"rows": []} for name in ("load", "pairs")}
    )
    old = {"rows": [], "when": "2026-01-01", "machine": "another", "onnxruntime": "1.0"}
    file = tmp_path / "sidecar.json"
    file.write_text(json.dumps({"name": "sidecar", "machine": "another", "pairs": old}))
    sidecar.run(["load"])
    found = json.loads(file.read_text())
    assert found["pairs"] == old
    assert found["load"]["when"] > "2026-01-01"
    assert set(found) == {"name", "pairs", "load"}


def test_the_account_of_faults_says_them_by_kind_and_what_became_of_requests() -> None:
    account = Account(asked=3, slowest_s=0.256)
    account.fault("hang", 2)
    account.fault("down")
    account.ended.update({"OK": 2, "RESOURCE_EXHAUSTED": 1})
    written = account.report()
    assert written.rows == [{"what": "down", "faults": 1}, {"what": "hang", "faults": 2}]
    said = written.totals
    assert (said["faults"], said["kinds"], said["requests"]) == (3, 2, 3)
    assert (said["answered"], said["refused"], said["lost"], said["slowest s"]) == (2, 1, 0, 0.26)
