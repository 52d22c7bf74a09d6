"""Engines on disk. Building one takes minutes, so it is done once for all that it depends on.

    <key>.engine   a line of JSON (what it is, size, SHA-256), then the engine

Written to a temporary file and renamed, so that no reader sees half of one. What is damaged is
deleted and counts as not there. The folder is bounded: the entries read longest ago go first.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from neuralrank.files.whole import write_whole

__all__ = ["CachedEngine", "EngineCache", "EngineKey"]

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".engine"
_TIMINGS: Final = ".timings"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on: with another value of any field it is another engine."""

    # SHA-256 of the bundle's model.onnx.
    model: str
    # "tensorrt" or "tensorrt_rtx", and the version.
    library: str
    version: str
    # Such as "9.0".
    compute_capability: str
    # Such as "NVIDIA H200": GPUs of one compute capability do not all run each other's engines.
    device: str
    # "fp32", "fp16", "bf16" or "fp8".
    precision: str
    # As `profiles.described` says them.
    profiles: str
    # The version of the conversion in `precision`.
    converter: int

    @property
    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine with what was found when it was tried; `engine` is empty where it was refused."""

    engine: bytes
    facts: dict[str, Any]


class EngineCache:
    """A folder of engines. Several processes may share it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """
        Args:
            max_bytes: of the entries together. The newest one stays, however large.
        """
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, key: EngineKey) -> CachedEngine | None:
        """The entry, or None where there is none or it is damaged (which is logged)."""
        file = self._file(key)
        read = self._read(file)
        if read is not None:
            with suppress(OSError):
                os.utime(file)  # read last now
        return read

    def put(self, key: EngineKey, engine: bytes, facts: dict[str, Any]) -> Path:
        """Writes an entry, and deletes the ones read longest ago until all fit."""
        file = self._file(key)
        self._write(file, engine, {**asdict(key), **facts})
        self._evict(keep=file)
        return file

    def remove(self, key: EngineKey) -> None:
        """Deletes an entry, if it is there."""
        self._file(key).unlink(missing_ok=True)

    @contextmanager
    def building(self, key: EngineKey) -> Iterator[None]:
        """One process at a time builds an engine; the others wait. A process that dies gives up its
        turn."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{key.digest}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def timings(self, key: EngineKey) -> bytes:
        """What earlier builds of any model on this kind of GPU learnt of kernels' times."""
        read = self._read(self._timings_file(key))
        return read.engine if read else b""

    def put_timings(self, key: EngineKey, timings: bytes) -> None:
        if timings:
            self._write(self._timings_file(key), timings, {})

    def _file(self, key: EngineKey) -> Path:
        return self._folder / f"{key.digest}{_SUFFIX}"

    def _timings_file(self, key: EngineKey) -> Path:
        return self._folder / f"{key.library}-{key.version}-{key.compute_capability}{_TIMINGS}"

    def _read(self, file: Path) -> CachedEngine | None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("a cached engine can't be read: %s", error)
            return None
        head, _, engine = content.partition(b"\n")
        try:
            facts: dict[str, Any] = json.loads(head)
            size, expected = facts.pop("size"), facts.pop("sha256")
        except (ValueError, KeyError, AttributeError, TypeError):
            size, expected, facts = -1, "", {}
        if len(engine) != size or hashlib.sha256(engine).hexdigest() != expected:
            _log.warning(
                "a cached engine is damaged; it is deleted and built anew",
                extra={"file": file.name, "bytes": len(engine), "expected_bytes": size},
            )
            with suppress(OSError):
                file.unlink()
            return None
        return CachedEngine(engine, facts)

    def _write(self, file: Path, content: bytes, facts: dict[str, Any]) -> None:
        head = {**facts, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_whole(file, json.dumps(head, sort_keys=True).encode() + b"\n" + content)

    def _evict(self, keep: Path) -> None:
        entries = []
        for file in self._folder.glob(f"[!.]*{_SUFFIX}"):  # not those that are being written
            with suppress(OSError):  # another process may have deleted it
                status = file.stat()
                entries.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries, key=lambda entry: entry[0]):
            if total <= self._max_bytes:
                return
            if file == keep:
                continue
            with suppress(OSError):
                file.unlink()
            total -= size
            _log.info("a cached engine made room", extra={"file": file.name, "bytes": size})
