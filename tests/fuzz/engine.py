"""Runs one target under atheris, in a process of its own: libFuzzer never gives the process back.

Bui, Marinescu et al., "Atheris: a coverage-guided fuzzer for Python" (2020), on libFuzzer.
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.targets import TARGETS

__all__ = ["Result", "fuzz", "reproduce"]

# What is followed: the code that decodes and checks.
_FOLLOWED: Final = ["sidecar.rpc.wire", "sidecar.rpc.columns", "sidecar.sizes", "sidecar.http",
                    "neuralrank.bundles.bundle", "neuralrank.text.cleaning"]  # fmt: skip
_LONGEST: Final = 65_536


@dataclass(frozen=True)
class Result:
    """What came of a target. `crash` is the input that failed; None: none did."""

    target: str
    inputs: int
    seconds: float
    crash: Path | None = None
    error: str = ""


def fuzz(name: str, seconds: int, folder: Path) -> Result:
    """Runs a target for so long; inputs that reached something new stay in `folder`."""
    target = TARGETS[name]
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for place, seed in enumerate(target.seeds()):
        (corpus / f"seed-{place}").write_bytes(seed)
    before = set(folder.glob(f"{name}.*-*"))
    # What the target makes there, nobody removes: libFuzzer ends the process.
    with tempfile.TemporaryDirectory(prefix="neuralrank-fuzz-") as temporary:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.engine", name, f"-max_total_time={seconds}",
             f"-max_len={_LONGEST}", f"-artifact_prefix={folder / name}.", "-print_final_stats=1",
             "-timeout=30", "-rss_limit_mb=4096", str(corpus)],
            capture_output=True, text=True, errors="replace", check=False,
            env={**os.environ, "TMPDIR": temporary},
        )  # fmt: skip
    ran = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
    took = re.search(r"Done \d+ runs in (\d+) second", done.stderr)
    crash = next(iter(sorted(set(folder.glob(f"{name}.*-*")) - before)), None)
    error = "" if done.returncode == 0 else done.stderr[-4_000:]
    return Result(
        name, int(ran[1]) if ran else 0, float(took[1]) if took else float(seconds), crash, error
    )


def reproduce(name: str, file: Path) -> None:
    """Gives a target one input, without a fuzzer. Raises what it raises."""
    TARGETS[name].run(file.read_bytes())


def _main() -> None:
    import atheris

    name, *flags = sys.argv[1:]
    with atheris.instrument_imports(include=_FOLLOWED):
        # Imported before this module could be followed; here again, followed.
        for module in [known for known in sys.modules if known.startswith(("sidecar", "neuralrank",
                                                                           "tests."))]:  # fmt: skip
            if not module.startswith("neuralrank.v1"):
                del sys.modules[module]
        from tests.fuzz.targets import TARGETS as followed
    atheris.Setup([sys.argv[0], *flags], followed[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
