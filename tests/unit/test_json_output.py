"""JSON is UTF-8 on every terminal, and other output says what it can."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import sys
from neuralrank import cli
from neuralrank.cli import commands
from neuralrank.cli.json_output import print_json
from neuralrank.console import table_console

def app():
    print_json({"title": "手机"}) if sys.argv[1] == "json" else table_console().print("a 手机")

cli.app = app
cli.main()
"""


@pytest.mark.parametrize("encoding", ["gbk", "latin1", "ascii", "utf-8"])
def test_a_terminal_of_another_encoding_gets_json_and_words(encoding: str) -> None:
    def printed(what: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS, what],
            cwd=Path(__file__).resolve().parents[2],
            env={"PYTHONIOENCODING": encoding, "PYTHONPATH": "."},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(printed("json")) == {"title": "手机"}
    words = printed("words").decode(encoding).split()
    assert words == ["a", "手机" if encoding in ("gbk", "utf-8") else "??"]
