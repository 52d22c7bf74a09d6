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
from neuralrank.errors import InvalidSettings
from neuralrank.stack import State, UpOptions
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


@pytest.mark.usefixtures("made")
def test_flags_of_a_node_go_before_an_address_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[UpOptions] = []
    state = State(home=tmp_path, opensearch_url="http://127.0.0.1:9201")
    monkeypatch.setattr(stack, "stack_up", lambda options, _: asked.append(options) or state)
    monkeypatch.setenv("NEURALRANK_OPENSEARCH_URL", "http://production:9200")
    for flags in (("--opensearch-port", "9201"), ("--heap", "1g")):
        said = " ".join(up(*flags).split())
        assert (asked[-1].opensearch_url, asked[-1].own_node) == (None, True)
        assert "the OpenSearch that the environment names is left alone" in said
    up()
    assert (asked[-1].opensearch_url, asked[-1].own_node) == ("http://production:9200", False)
    both = ["up", "--opensearch-url", "http://production:9200", "--heap", "1g"]
    refused = CliRunner().invoke(app, both)
    assert isinstance(refused.exception, InvalidSettings)
    assert "--heap is of one of this stack's own" in str(refused.exception)


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
