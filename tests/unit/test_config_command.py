"""`neuralrank config apply` where several indexes are to be made anew."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, Unavailable
from opensearch_config import Change, Renewed

PIPELINE = Change("update", "search pipeline", "neural_rank")
RENEWALS = [Change("reindex", "index", name) for name in ("a-1", "b-1", "c-1")]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """Why an index can't be made anew, by name."""
    errors: dict[str, BaseException] = {}

    def renew(_client: Any, change: Change, _folder: Path, **_: Any) -> Renewed:
        if change.name in errors:
            raise errors[change.name]
        return Renewed(change.name[0], change.name, f"{change.name[0]}-2", 3, 0.1, (), ())

    for name in ("diff", "apply"):
        monkeypatch.setattr(f"opensearch_config.{name}", lambda *_: [PIPELINE, *RENEWALS])
    monkeypatch.setattr("opensearch_config.renew", renew)
    return errors


def applied(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["config", "apply", "--yes", *arguments])


def test_one_that_fails_does_not_end_the_others_and_all_is_said(
    failing: dict[str, BaseException],
) -> None:
    failing |= {"a-1": InvalidInput("no such type."), "b-1": Unavailable("away.")}
    done = applied()
    assert done.exit_code == 3
    assert "neural_rank" in done.stdout
    assert "c → c-2: 3 documents" in done.stdout
    assert done.stderr.splitlines() == ["neuralrank: a-1: no such type.", "neuralrank: b-1: away."]

    value = orjson.loads(applied("--json").stdout)
    assert [change["name"] for change in value["changes"]] == ["neural_rank", "c-1"]
    assert [each["index"] for each in value["renewed"]] == ["c-2"]
    assert value["failed"][0] == {"name": "a-1", "error": "no such type."}


def test_what_was_done_before_an_interruption_is_said(failing: dict[str, BaseException]) -> None:
    failing["b-1"] = KeyboardInterrupt("b-1 still refuses writes.")
    done = applied()
    assert done.exit_code == 130
    assert "a → a-2" in done.stdout
    assert "c → c-2" not in done.stdout
    assert "Interrupted" in done.stderr
    assert "b-1 still refuses writes." in done.stderr


def test_where_nothing_fails_it_ends_with_0(failing: dict[str, BaseException]) -> None:
    assert not failing
    assert applied().exit_code == 0
