"""Items, users and queries through their caches: what is read, and when it is read anew."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from neuralrank.errors import NotFound, Unavailable
from sidecar.deadline import Deadline
from sidecar.domain import Interaction, Profile
from sidecar.items import ItemStore
from sidecar.shared import SharedReads
from tests.unit.sidecar.parts import Bench, item, shop

# Counted from the import: tests of a real node may run in between, for minutes.
SOON = Deadline.after(3_600.0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(shop())
    yield made
    made.close()


async def names(store: ItemStore, *ids: str, versions: list[int | None] | None = None) -> set[str]:
    index = await store.index("shop", SOON)
    return set((await store.get(index, ids, SOON, versions)).items)


async def test_items_are_read_once_until_their_time_is_up(bench: Bench) -> None:
    assert await names(bench.items, "A", "B", "ghost") == {"A", "B"}
    assert await names(bench.items, "A", "B", "ghost") == {"A", "B"}
    assert bench.catalogue.reads == ["index", "items shop 3"]
    bench.clock.now += 31
    await names(bench.items, "A")
    assert bench.catalogue.reads[2:] == ["index", "items shop 1"]


async def test_another_version_is_read_anew(bench: Bench) -> None:
    await names(bench.items, "A")
    bench.catalogue.contents["A"] = replace(bench.catalogue.contents["A"], version=7)
    await names(bench.items, "A", versions=[7])
    await names(bench.items, "A", versions=[7])
    assert bench.catalogue.reads == ["index", "items shop 1", "items shop 1"]


async def test_with_a_version_age_does_not_matter(bench: Bench) -> None:
    version = bench.catalogue.contents["A"].version
    await names(bench.items, "A")
    bench.clock.now += 1_000
    assert await names(bench.items, "A", versions=[version]) == {"A"}
    assert bench.catalogue.reads.count("items shop 1") == 1
    await names(bench.items, "A")  # without one it is read again
    assert bench.catalogue.reads.count("items shop 1") == 2


async def test_nothing_of_the_old_index_is_seen_after_its_alias_was_switched(
    bench: Bench,
) -> None:
    await names(bench.items, "A")
    bench.catalogue.generation = "shop-2"
    del bench.catalogue.contents["A"]
    bench.clock.now += 3
    assert await names(bench.items, "A") == set()


async def test_the_cache_stays_within_its_bytes(bench: Bench) -> None:
    store = ItemStore(
        bench.catalogue,
        bench.metrics,
        max_bytes=20_000,
        item_ttl=30,
        index_ttl=30,
        wait=5,
        read_timeout=5,
        clock=bench.clock,
    )
    bench.catalogue.contents = {str(n): item(str(n), "kettle " * 300) for n in range(50)}
    assert len(await names(store, *bench.catalogue.contents)) == 50
    assert 0 < store.bytes <= 20_000


async def test_an_item_larger_than_the_cache_is_used_all_the_same(bench: Bench) -> None:
    bench.catalogue.contents["A"] = item("A", "kettle " * 200_000)
    assert await names(bench.items, "A") == {"A"}


async def test_what_is_cached_is_there_when_opensearch_is_not(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    await bench.items.get(index, ["A"], SOON)
    bench.catalogue.error = Unavailable("down")
    found = await bench.items.get(index, ["A", "B"], SOON)
    assert (set(found.items), found.problem) == ({"A"}, "down")


async def test_a_profile_is_kept_for_its_time_and_then_read_anew(bench: Bench) -> None:
    assert (await bench.users.profile("u", SOON)).is_empty
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))
    assert (await bench.users.profile("u", SOON)).is_empty
    bench.clock.now += 1.1
    assert not (await bench.users.profile("u", SOON)).is_empty


async def test_requests_of_one_user_at_one_time_share_a_read(bench: Bench) -> None:
    await asyncio.gather(*(bench.users.profile("u", SOON) for _ in range(5)))
    assert bench.catalogue.reads == ["events"]


async def test_a_read_goes_on_when_its_request_gives_up() -> None:
    reads = SharedReads(wait=10.0)
    release = asyncio.Event()
    done = []

    async def slow() -> str:
        await release.wait()
        done.append("read")
        return "value"

    with pytest.raises(Unavailable, match="did not answer within 0 ms"):
        await reads.get("key", slow, Deadline.after(0.0))
    waiting = asyncio.create_task(reads.get("key", slow, SOON))
    await asyncio.sleep(0)
    release.set()
    assert await waiting == "value"
    assert done == ["read"]


async def test_a_failure_reaches_every_waiter_and_is_not_kept() -> None:
    reads = SharedReads(wait=10.0)

    async def broken() -> str:
        raise NotFound("gone")

    async def whole() -> str:
        return "value"

    results = await asyncio.gather(
        *(reads.get("key", broken, SOON) for _ in range(2)), return_exceptions=True
    )
    assert [str(error) for error in results] == ["gone", "gone"]
    assert await reads.get("key", whole, SOON) == "value"


async def test_reads_do_not_pile_up_on_a_cluster_that_hangs() -> None:
    reads = SharedReads(wait=10.0, limit=2)

    async def hang() -> None:
        await asyncio.Event().wait()

    for key in ("a", "b"):
        with pytest.raises(Unavailable):
            await reads.get(key, hang, Deadline.after(0.0))
    with pytest.raises(Unavailable, match="2 reads from OpenSearch are under way"):
        await reads.get("c", hang, SOON)
    reads.close()
