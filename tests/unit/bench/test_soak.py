"""What a soak leaves behind."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import soak
from bench.disturbances import Done
from bench.flatness import Verdict
from bench.load import Tally


def test_a_short_soak_is_a_try_and_leaves_the_file_of_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "RESULTS", tmp_path)
    monkeypatch.setattr(soak, "_plot", lambda _, file: file.touch())
    proxy = SimpleNamespace(injected=Counter(down=1))

    def publish(minutes: float) -> None:
        tally, verdict = Tally(sent=1, statuses=Counter(OK=1), ms=[1.0]), Verdict({}, [])
        soak._publish(minutes, 1.0, 10.0, 7.0, 50, [], tally, verdict, Done(), proxy)

    publish(9)
    assert not list(tmp_path.iterdir())
    assert "Not written: a soak of less than 10 minutes" in capsys.readouterr().out
    publish(10)
    assert {file.name for file in tmp_path.iterdir()} == {"soak.json", "soak.svg"}
