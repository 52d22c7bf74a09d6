"""What the package says of itself: which versions it needs, and under which licences it comes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import neuralrank.v1 as stubs

CHECKOUT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
NEEDED = {found.name: found for found in map(Requirement, PROJECT["dependencies"])}
MODELS = CHECKOUT / "neuralrank/models"


def demanded() -> dict[str, Version]:
    """The versions without which the generated stubs end the import."""
    (folder,) = stubs.__path__
    messages = (Path(folder) / "ranking_pb2.py").read_text("utf-8")
    services = (Path(folder) / "ranking_pb2_grpc.py").read_text("utf-8")
    numbers = re.search(r"Domain\.PUBLIC,\s*(\d+),\s*(\d+),\s*(\d+),", messages)
    grpc = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", services)
    assert numbers
    assert grpc
    return {"protobuf": Version(".".join(numbers.groups())), "grpcio": Version(grpc[1])}


def test_older_versions_than_the_stubs_take_are_not_allowed() -> None:
    for name, least in demanded().items():
        assert NEEDED[name].specifier.contains(least)
        assert f">={least}" in str(NEEDED[name].specifier), name
    # Stubs of one major version are promised to work with it and the next.
    following = demanded()["protobuf"].major + 2
    assert not NEEDED["protobuf"].specifier.contains(f"{following}.0.0")


def test_the_stubs_are_made_by_what_the_build_asks_for() -> None:
    (tools,) = (one for one in PYPROJECT["build-system"]["requires"] if "grpcio" in one)
    assert tools == f"grpcio-tools=={demanded()['grpcio']}"


def test_the_versions_that_tests_run_with_are_allowed() -> None:
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (CHECKOUT / "constraints.txt").read_text(), re.M)
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    for name, needed in NEEDED.items():
        assert needed.specifier.contains(pinned[name]), name


def test_every_licence_that_ships_is_named_in_the_metadata() -> None:
    shipped = {path for pattern in PROJECT["license-files"] for path in CHECKOUT.glob(pattern)}
    beside = set(MODELS.glob("*/LICENSE*"))
    assert beside
    assert {CHECKOUT / "LICENSE", CHECKOUT / "NOTICE", *beside} == shipped
    held = {
        json.loads(path.read_text("utf-8"))["licence"] for path in MODELS.glob("*/manifest.json")
    }
    assert set(PROJECT["license"].split(" AND ")) == {
        licence for one in held for licence in one.split(" AND ")
    }


@pytest.mark.parametrize("folder", ["small", "chinese"])
def test_a_models_page_says_the_licence_that_its_bundle_has(folder: str) -> None:
    manifest = json.loads((MODELS / folder / "manifest.json").read_text("utf-8"))
    page = (CHECKOUT / f"docs/models/{manifest['name']}.md").read_text("utf-8")
    row = re.search(r"^\| licence \| ([^|]+) \|$", page, re.M)
    assert row
    assert re.match(rf"{re.escape(manifest['licence'])}\b", row[1])
