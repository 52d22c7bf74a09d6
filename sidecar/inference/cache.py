"""A cache of what models computed, bounded in bytes and keyed by what computed it."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeVar

from cachetools import LRUCache

from sidecar.telemetry.metrics import Metrics

__all__ = ["BundleCache", "text_bytes"]

_Value = TypeVar("_Value")
# What an entry takes beside its texts and numbers: the key's tuple, the links and the slots.
_ENTRY: Final = 250
# Entries that are dropped at a time: other work gets its turn in between.
_AT_ONCE: Final = 500


def text_bytes(*texts: str) -> int:
    """About the bytes of strings in memory: a character outside Latin takes two or four."""
    return sum(len(text) * (1 if text.isascii() else 2) + 50 for text in texts)


class BundleCache(Generic[_Value]):
    """The values used last, by bundle and key. For one thread. A swapped bundle has another ref, so
    that nothing of the old one is ever found for the new one. Tokens are kept by the vocabulary in
    the place of the bundle, and are never forgotten but for newer ones."""

    def __init__(
        self,
        name: str,
        metrics: Metrics,
        max_bytes: int,
        size: Callable[[Any, _Value], int],
    ) -> None:
        """
        Args:
            name: in the metrics.
            size: bytes of a key and its value.
        """
        self._name = name
        self._metrics = metrics
        self._size = size
        self._entries: LRUCache[tuple[str, Hashable], tuple[_Value, int]] = LRUCache(
            max_bytes, getsizeof=lambda entry: entry[1]
        )
        metrics.watch_cache(name, lambda: self.bytes)

    def get(self, ref: str, keys: Sequence[Hashable]) -> list[_Value | None]:
        """The value of each key; None where it is not known."""
        found = [self._entries.get((ref, key)) for key in keys]
        misses = found.count(None)
        self._metrics.cache(self._name, hits=len(keys) - misses, misses=misses)
        return [None if entry is None else entry[0] for entry in found]

    def put(self, ref: str, key: Hashable, value: _Value) -> None:
        """Keeps a value, unless it is larger than the whole cache."""
        size = _ENTRY + self._size(key, value)
        if size <= self._entries.maxsize:
            self._entries[ref, key] = (value, size)

    async def forget(self, ref: str) -> None:
        """Drops what a bundle computed that serves no more."""
        keys = [key for key in self._entries if key[0] == ref]
        for number, key in enumerate(keys, start=1):
            self._entries.pop(key, None)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    @property
    def bytes(self) -> int:
        """About what the cache takes."""
        return int(self._entries.currsize)
