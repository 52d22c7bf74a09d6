"""What `neuralrank up` writes into a cluster, and which cluster `make` means, without one."""

import os
import subprocess
from pathlib import Path
from typing import Any

import opensearchpy
import pytest
from typer.testing import CliRunner

from neuralrank.cli import stack
from neuralrank.cli.commands import app
from neuralrank.stack import State
from opensearch_config import Change

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What was asked of the cluster. It has a pipeline that somebody edited."""
    calls: list[tuple[Any, ...]] = []

    def create(*given: Any) -> list[Change]:
        calls.append(given)
        return [Change("update", "search pipeline", "neural_rank", ("weights is …",))]

    state = State(home=tmp_path, opensearch_url="http://search:9200", external=True)
    monkeypatch.setattr(stack, "stack_up", lambda *_: state)
    monkeypatch.setattr("opensearch_config.create", create)
    return calls


def up(*flags: str) -> str:
    done = CliRunner().invoke(app, ["up", *flags])
    assert done.exit_code == 0, done.output
    return done.stderr


def test_what_is_in_the_cluster_stays_and_is_named(made: list[tuple[Any, ...]]) -> None:
    said = " ".join(up().split())
    assert isinstance(made[0][0], opensearchpy.OpenSearch)
    assert "left so: search pipeline neural_rank. `neuralrank config diff`" in said


def test_without_config_nothing_is_written(made: list[tuple[Any, ...]]) -> None:
    up("--no-config")
    assert made == []


def test_make_uses_a_stack_of_the_checkout_whatever_is_exported() -> None:
    """`make demo` would index its examples into the cluster that the shell names."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "--eval=shown: ; @env", "shown"],
        cwd=CHECKOUT,
        env=os.environ
        | {
            "NEURALRANK_OPENSEARCH_URL": "https://production:9200",
            "NEURALRANK_SIDECAR": "production:50051",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "production" not in shown.stdout
