"""What a soak does to a sidecar while it serves: new models, new events, faults, callers that hang
up. Each goes on until it is cancelled."""

import asyncio
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from bench.faulty import FAULTS, FaultProxy
from bench.scripted import Shop
from neuralrank.bundles.bundle import Bundle, write_bundle
from neuralrank.bundles.registry import Registry
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["Done", "cancel", "change_profiles", "inject", "swap"]

# Seconds between them.
SWAP_EVERY: Final = 20.0
_FAULT_EVERY: Final = 15.0
_FAULT_LASTS: Final = 2.0
_EVENT_EVERY: Final = 0.2
_CANCEL_EVERY: Final = 1.0


@dataclass
class Done:
    """What the soak has done to the sidecar: bundles as name@hash, and those that answers named."""

    published: list[str] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    events: int = 0
    cancelled: int = 0

    @property
    def swaps(self) -> int:
        return len(self.published)

    @property
    def unserved(self) -> int:
        """Bundles that were published and named by no answer."""
        return len(set(self.published) - self.served)


async def swap(registry: Registry, bundle: Bundle, folder: Path, done: Done) -> None:
    """Publishes the cross-encoder again and again, each time as another bundle, and removes what
    is older than the last two, as a retention rule would."""
    published = [bundle]
    kept = folder / "kept"
    await asyncio.to_thread(shutil.copytree, bundle.path, kept)
    while True:
        await asyncio.sleep(SWAP_EVERY)
        fresh = await asyncio.to_thread(_variant, kept, folder / "variant", done.swaps)
        published.append(await asyncio.to_thread(registry.publish, fresh))
        done.published.append(published[-1].ref)
        while len(published) > 2:
            old = published.pop(0)
            await asyncio.to_thread(shutil.rmtree, old.path)


def _variant(model: Path, path: Path, number: int) -> Bundle:
    """The same model under another hash, and newer."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(model, path)
    fields = Bundle.open(path).manifest.model_dump(mode="json", exclude={"files", "created"})
    return write_bundle(path, {**fields, "training_window": f"soak {number}"})


async def inject(proxy: FaultProxy) -> None:
    chance = random.Random(0)
    while True:
        await asyncio.sleep(_FAULT_EVERY)
        await proxy.set(chance.choice(FAULTS), seconds=0.5)
        await asyncio.sleep(_FAULT_LASTS)
        await proxy.set("none")


async def change_profiles(shop: Shop, done: Done) -> None:
    chance = random.Random(0)
    items = list(shop.items)
    while True:
        await asyncio.sleep(_EVENT_EVERY)
        user = f"user-{chance.randrange(200)}"
        # As many are kept as a user's profile reads: the shop itself must not grow.
        shop.events[user] = shop.events[user][-100:]
        shop.add(user, "view", chance.choice(items), int(time.time() * 1_000))
        done.events += 1


async def cancel(address: str, requests: Sequence[pb.RankRequest], done: Done) -> None:
    """Callers that hang up in the middle."""
    chance = random.Random(0)
    async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = pb_grpc.RankingStub(channel)  # type: ignore[no-untyped-call]
        while True:
            await asyncio.sleep(_CANCEL_EVERY)
            call = stub.Rank(chance.choice(requests), timeout=5.0)
            await asyncio.sleep(chance.random() * 0.05)
            if call.cancel():
                done.cancelled += 1
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call
