"""`neuralrank experiment report` as it is read."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest
from typer.testing import CliRunner

from neuralrank.cli import experiment
from neuralrank.cli.commands import app
from neuralrank.experiments import Page


def report(monkeypatch: pytest.MonkeyPatch, pages: Iterable[Page], *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(experiment, "read_pages", lambda *_, **__: pages)
    done = CliRunner().invoke(app, ["experiment", "report", "x", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_arm_without_users_has_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was compared as one on which nobody clicks: "ctr 1.0000 0.0000 -1.0000 -100.0%"."""
    pages = [Page(user, "A", Counter({("clicks", "A"): 1})) for user in "xy"]
    shown = report(monkeypatch, pages)
    (ctr,) = (line.split() for line in shown.splitlines() if line.startswith("ctr"))
    assert ctr == ["ctr", "1.0000", "–", "–"]
    assert "B has no users yet." in shown
    assert "A has no users" not in shown
    row = json.loads(report(monkeypatch, pages, "--json"))["ab"]["differences"][0]
    assert (row["a"], row["b"], row["difference"]) == (1.0, None, None)
