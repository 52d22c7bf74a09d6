import os
from pathlib import Path

import pytest

from neuralrank.errors import Unsupported
from neuralrank.stack.setup import check_setup


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As `make setup` leaves it."""
    (tmp_path / "protos/neuralrank/v1").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    for name in ("pyproject.toml", "protos/neuralrank/v1/ranking.proto", ".venv/installed.stamp"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".venv/installed.stamp", (2e9, 2e9))
    return tmp_path


def test_what_was_set_up_is_used(checkout: Path) -> None:
    check_setup(checkout, checkout / ".venv")


@pytest.mark.parametrize("name", ["pyproject.toml", "protos/neuralrank/v1/ranking.proto"])
def test_what_changed_since_is_named_with_what_to_do(checkout: Path, name: str) -> None:
    os.utime(checkout / name, (2e9 + 1, 2e9 + 1))
    with pytest.raises(Unsupported, match=rf"{Path(name).name} changed.*Run `make setup` again"):
        check_setup(checkout, checkout / ".venv")


def test_another_environment_is_its_owners_business(checkout: Path) -> None:
    os.utime(checkout / "pyproject.toml", (2e9 + 1, 2e9 + 1))
    check_setup(checkout, checkout / "elsewhere")
    (checkout / ".venv/installed.stamp").unlink()
    check_setup(checkout, checkout / ".venv")
