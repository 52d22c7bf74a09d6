"""Whether what is installed is what the checkout says now."""

import sys
from pathlib import Path

from neuralrank.errors import Unsupported
from neuralrank.stack.artifacts import CHECKOUT

__all__ = ["check_setup"]

# What `make setup` installs by and generates from; the Makefile has the same list.
_SOURCES = ("pyproject.toml", "constraints.txt", "hatch_build.py")
_PROTOS = "protos/neuralrank/v1/*.proto"


def check_setup(checkout: Path = CHECKOUT, environment: Path = Path(sys.prefix)) -> None:
    """After a `git pull` the generated messages and the packages may be of before: every request
    would then fail, and nothing would say why.

    Args:
        environment: the one that this runs in; only the checkout's own, which `make setup` makes,
            is looked at.

    Raises:
        Unsupported: it is older than what it was made by.
    """
    stamp = environment / "installed.stamp"
    if environment != checkout / ".venv" or not stamp.is_file():
        return
    made = stamp.stat().st_mtime
    sources = [*(checkout / name for name in _SOURCES), *sorted(checkout.glob(_PROTOS))]
    if newer := [path.name for path in sources if path.is_file() and path.stat().st_mtime > made]:
        raise Unsupported(
            f"Since `make setup`, {', '.join(newer)} changed: what was installed and generated "
            "then may not fit the rest. Run `make setup` again."
        )
