"""A worker's side of what it has with its parent (`sidecar.processes.supervisor`)."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["GO", "WARM", "Parent"]

WARM: Final = b"warm\n"
GO: Final = b"go\n"


class Parent:
    """The process that started this worker, over standard input, which is a socket."""

    def __init__(self, gone: Callable[[], None]) -> None:
        """
        Args:
            gone: called when the parent has ended, so that no worker is left behind.
        """
        self._gone = gone
        self._go = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    async def ready(self) -> None:
        """Says that this worker is warm, and waits until all are."""
        os.write(sys.stdin.fileno(), WARM)
        await self._go.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    def _read(self) -> None:
        try:
            read = os.read(sys.stdin.fileno(), 64)
        except ConnectionResetError:  # it was killed before it read what was said
            read = b""
        if GO.strip() in read:
            self._go.set()
        elif not read:
            self.close()
            self._gone()
