"""Files of tensors as old versions of torch wrote them, read without torch."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuralrank.errors import InvalidInput
from neuralrank.models.torch_file import read_torch_file


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def test_it_reads_what_torch_wrote(tmp_path: Path) -> None:
    shared = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = OrderedDict(
        whole=shared,
        part=shared[1:3, 2:5],
        turned=shared.T,
        count=torch.tensor(7),
        none=torch.zeros(0, 3),
    )
    found = read_torch_file(saved(tmp_path / "w.pth", tensors))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_that_would_run_something_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "w.pth", OrderedDict(evil=Evil(), good=torch.zeros(1)))
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(InvalidInput, match=r"names posix\.system, which no file of tensors needs"):
        read_torch_file(path)
    assert ran == []


@pytest.mark.parametrize("cut", [0, 1, 10, 60, 200, -4, -40])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = saved(tmp_path / "w.pth", OrderedDict(a=torch.arange(100.0)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidInput, match="not a whole file of tensors"):
        read_torch_file(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidInput, match="Save others as safetensors"):
        read_torch_file(tmp_path / "w.pth")
