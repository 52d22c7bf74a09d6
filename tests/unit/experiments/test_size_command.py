"""`neuralrank experiment size` as it is typed."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["experiment", "size", *arguments])


def test_sizes_of_both_kinds() -> None:
    assert "3,839 users in each arm, 7,678 in all" in run("--rate", "0.1", "--lift", "0.2").stdout
    assert "783 users who take more" in run("--preference", "0.55").stdout
    answer = json.loads(run("--rate", "0.1", "--lift", "0.2", "--power", "0.9", "--json").stdout)
    assert answer == {
        "mode": "ab",
        "users_in_each_arm": 5139,
        "users": 10278,
        "power": 0.9,
        "alpha": 0.05,
    }


@pytest.mark.parametrize(
    "arguments",
    [(), ("--rate", "0.1"), ("--lift", "0.1"), ("--preference", "0.6", "--rate", "0.1")],
)
def test_half_a_question_is_no_question(arguments: tuple[str, ...]) -> None:
    failed = run(*arguments).exception
    assert isinstance(failed, InvalidInput)
    assert "--rate and --lift for an A/B test" in str(failed)
