"""The command for several processes, as docs/trainer.md has it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from neuralrank.bundles.registry import Registry
from tests.unit.conftest import tiny_bundle
from tests.unit.trainer.text.test_reranker import tiny_dataset

CHECKOUT = Path(__file__).parents[3]


def test_torchrun_trains_with_two_processes_and_publishes_once(tmp_path: Path) -> None:
    page = " ".join((CHECKOUT / "docs/trainer.md").read_text().split())
    documented = re.search(r"`(torchrun [^`]*--no-python neuralrank train) …", page)
    assert documented
    launcher = documented[1].split()
    assert launcher[launcher.index("--nproc-per-node") + 1] == "2"
    registry = Registry(str(tmp_path / "registry"))
    parent = registry.publish(tiny_bundle(tmp_path / "parent", "cross_encoder"))
    tiny_dataset().write(tmp_path / "data")
    out = tmp_path / "run"
    done = subprocess.run(
        [
            *launcher, "reranker", str(tmp_path / "data"), "--from", parent.ref,
            "--registry", registry.url, "--out", str(out), "--steps", "4", "--batch-size", "4",
            "--track", "none", "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (answer,) = done.stdout.splitlines()  # one process speaks
    assert json.loads(answer)["steps"] == 4
    assert registry.refs() == sorted([parent.ref, json.loads(answer)["ref"]])
