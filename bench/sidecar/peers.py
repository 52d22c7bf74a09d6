"""Peers in environments of their own, and the cross-encoder measured against them side by side.

Each library gets a virtual environment under `<home>/bench/peers`, from the versions in
`bench/peers.txt`. What can't be installed or started is reported with its error, not left out.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.sidecar.pairs import PairSet
from bench.sidecar.weights import Weights

__all__ = ["Measured", "Peer", "agreement", "measure", "peers"]

REQUIREMENTS: Final = Path(__file__).parents[1] / "peers.txt"
_SCRIPT: Final = Path(__file__).with_name("peer.py")
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Peer:
    """A way to score pairs. `library` is "" for what runs in our own environment. `ours`: whether
    it runs the graph that we wrote."""

    name: str
    kind: str
    folder: Path
    library: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Measured:
    """Seconds of each round by set, and the scores; or why there are none."""

    seconds: dict[str, list[float]]
    scores: dict[str, list[list[float]]]
    error: str = ""


def peers(weights: Weights) -> list[Peer]:
    """Ours first; the others with the same weights, each in the form that it reads."""
    return [
        Peer("neuralrank int8", "neuralrank", weights.int8.path, ours=True),
        Peer("neuralrank fp32", "neuralrank", weights.fp32.path, ours=True),
        Peer("ONNX Runtime, one padded batch, int8", "plain", weights.package),
        # Of the checkpoint it runs the float32 graph, which is that of our bundle.
        Peer("ONNX Runtime, one padded batch, fp32", "plain", weights.checkpoint, ours=True),
        Peer("sentence-transformers, torch fp32", "sentence-transformers", weights.checkpoint,
             "sentence-transformers"),
        Peer("fastembed, int8", "fastembed", weights.package, "fastembed"),
        Peer("flashrank, int8", "flashrank", weights.flashrank, "flashrank"),
        Peer("infinity-emb, torch fp32", "infinity-emb", weights.checkpoint, "infinity-emb"),
    ]  # fmt: skip


def measure(
    contenders: Sequence[Peer], sets: Sequence[PairSet], folder: Path, *, rounds: int, threads: int,
    max_tokens: int,
) -> dict[str, Measured]:  # fmt: skip
    """Every peer on every set, taking turns, so that what else the machine does falls on all alike.

    Args:
        folder: for environments and the pairs.
    """
    file = folder / "pairs.json"
    file.write_text(
        json.dumps(
            {s.name: [[q, list(t)] for q, t in zip(s.queries, s.texts, strict=True)] for s in sets}
        )
    )
    errors: dict[str, str] = {}
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    scores: dict[str, dict[str, list[list[float]]]] = defaultdict(dict)
    with ExitStack() as stack:
        running: dict[str, _Process] = {}
        for peer in contenders:
            try:
                python = _environment(peer.library, folder / "peers")
                running[peer.name] = stack.enter_context(
                    _Process(peer, python, file, threads, max_tokens, folder)
                )
            except _PeerError as error:
                errors[peer.name] = str(error)
        for _ in range(rounds):
            for pairs in sets:
                for name, process in list(running.items()):
                    try:
                        answer = process.run(pairs.name)
                    except _PeerError as error:
                        errors[name] = str(error)
                        del running[name]
                        continue
                    seconds[name][pairs.name].append(answer["seconds"])
                    scores[name][pairs.name] = answer["scores"]
    return {
        peer.name: Measured(dict(seconds[peer.name]), scores[peer.name], errors.get(peer.name, ""))
        for peer in contenders
    }


class _PeerError(Exception):
    """A peer could not be installed, started or run."""


class _Process:
    def __init__(
        self, peer: Peer, python: str, pairs: Path, threads: int, max_tokens: int, folder: Path
    ) -> None:
        self._name = peer.name
        self._log = folder / f"{peer.kind}-{peer.folder.name}.log"
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "true",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
            # Only ours may see our modules.
            "PYTHONPATH": "" if peer.library else str(_ROOT),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(python, str(_SCRIPT), peer.kind, str(peer.folder), str(pairs)),
                    *(str(threads), str(max_tokens)),
                ],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> "_Process":
        try:
            self._answer()
        except _PeerError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def run(self, name: str) -> Any:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer says it
            print(name, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text("utf-8", "replace").strip().splitlines()
            raise _PeerError(said[-1] if said else "it ended without a word")
        return json.loads(line)


def _environment(library: str, folder: Path) -> str:
    """The Python of the library's environment, made where it is not there yet."""
    if not library:
        return sys.executable
    wanted = _requirements()[library]
    target = folder / library
    python, stamp = target / "bin/python", target / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return str(python)
    print(f"installing {library} into {target}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", str(target)],
        [str(python), "-m", "pip", "install", "--quiet", *wanted.split()],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["pip failed"]
            raise _PeerError(f"not installable: {said[-1]}")
    stamp.write_text(wanted)
    return str(python)


def _requirements() -> dict[str, str]:
    """What pip is given, by library."""
    lines = REQUIREMENTS.read_text("utf-8").splitlines()
    rows = [line.split(":", 1) for line in lines if line and not line.startswith("#")]
    return {name.strip(): wanted.strip() for name, wanted in rows}


def agreement(scores: list[list[float]], other: list[list[float]]) -> float:
    """Mean Spearman correlation of two scorings, by query."""
    return float(np.mean([_spearman(a, b) for a, b in zip(scores, other, strict=True)]))


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    ranks = [np.argsort(np.argsort(np.asarray(values))).astype(float) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
