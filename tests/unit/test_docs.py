"""Documentation is a contract: what is not in it fails here."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from neuralrank.cli.commands import app
from neuralrank.errors import (
    EXIT_CODE,
    GRPC_STATUS,
    HTTP_STATUS,
    NeuralrankError,
    exit_code,
    grpc_status,
    http_status,
)
from neuralrank.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
SERVICES = (CHECKOUT / "docs/services.md").read_text(encoding="utf-8")
COMMANDS = (CHECKOUT / "docs/commands.md").read_text(encoding="utf-8")
PAGES = [
    path
    for path in (
        *CHECKOUT.glob("*.md"),
        *CHECKOUT.glob("docs/**/*.md"),
        *CHECKOUT.glob("*/README.md"),
    )
    if ".venv" not in path.parts
]

SOURCES = [
    path
    for folder in ("bench", "deploy", "indexer", "neuralrank", "opensearch_config", "plugin/src",
                   "protos", "sidecar", "tests", "trainer")
    for kind in ("java", "proto", "py", "yaml", "yml")
    for path in (CHECKOUT / folder).rglob(f"*.{kind}")
]  # fmt: skip


def leaves(command: Any, path: str) -> list[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, f"{path} {name}")]


LEAVES: list[tuple[str, Any]] = leaves(typer.main.get_command(app), "neuralrank")


@pytest.mark.parametrize("path", [path for path, _ in LEAVES])
def test_every_command_is_documented(path: str) -> None:
    assert f"| `{path}` |" in COMMANDS


def test_no_command_is_documented_that_is_not_there() -> None:
    documented = re.findall(r"^\| `(neuralrank [a-z ]+)` \|", COMMANDS, re.M)
    assert set(documented) == {path for path, _ in LEAVES}


@pytest.mark.parametrize(("path", "command"), LEAVES)
def test_every_command_and_every_option_says_what_it_is(path: str, command: Any) -> None:
    assert command.help, path
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{path}: {parameter.name}"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`NEURALRANK_{name.upper()}`" in COMMANDS


def subclasses(kind: type[NeuralrankError]) -> list[type[NeuralrankError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in subclasses(child))]


@pytest.mark.parametrize(
    "kind", [k for k in subclasses(NeuralrankError) if k is not NeuralrankError]
)
def test_every_error_has_documented_statuses_and_a_documented_exit_code(
    kind: type[NeuralrankError],
) -> None:
    assert grpc_status(kind("")) in GRPC_STATUS.values()
    assert f"| `{grpc_status(kind(''))}` | {http_status(kind(''))} |" in SERVICES
    assert f"| {exit_code(kind(''))} |" in COMMANDS
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(EXIT_CODE)
    assert len(set(EXIT_CODE.values())) == len(EXIT_CODE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_nobody_is_told_to_install_our_name_from_a_package_index() -> None:
    """It is not there: whoever takes the name would be installed."""
    told = re.compile(r"pip install [^\n`]*'?neuralrank\b")
    for path in (*PAGES, *SOURCES):
        assert not told.search(path.read_text(encoding="utf-8")), path


def test_every_page_that_code_names_is_there() -> None:
    named = {
        (page, path.relative_to(CHECKOUT))
        for path in SOURCES
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert {page for page, _ in named} > {"docs/trainer.md", "docs/decisions/004-blend.md"}
    assert not [(page, path) for page, path in named if not (CHECKOUT / page).is_file()]
