"""`neuralrank feedback log`: an action that nobody knows may be a typo."""

import json

import pytest
from typer.testing import CliRunner

from neuralrank.cli import feedback
from neuralrank.cli.commands import app


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("click", ""),
        ("block", ""),
        ("clik", "counts as a view. Did you mean click?"),
        ("Purchase", "counts as a view. Did you mean purchase?"),
        ("wishlist", "The action 'wishlist' is one of your own, which counts as a view."),
    ],
)
def test_an_unknown_action_is_logged_and_told(
    action: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opensearch_config.apply_ubi", lambda *_: None)
    monkeypatch.setattr(feedback, "conflicts", lambda *_: [])
    monkeypatch.setattr(feedback, "bulk_write", lambda *_, **__: [])
    done = CliRunner().invoke(
        app, ["feedback", "log", "--user", "A", "--action", action, "--item", "x", "--json"]
    )
    answer = json.loads(done.stdout)
    assert answer["event"]["action_name"] == action
    assert " ".join(answer["warnings"]).endswith(said)
    assert bool(answer["warnings"]) == bool(said)
    assert said in done.stderr
