"""Items, users and queries through their caches: what is read, and when it is read anew."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from neuralrank.errors import DeadlineExceeded, NotFound, Unavailable
from sidecar.deadline import Deadline
from sidecar.domain import Floats, Interaction, Item, Profile
from sidecar.features.items import ItemStore
from sidecar.features.shared import SharedReads
from tests.unit.sidecar.parts import Bench, Clock, item, shop, vector

# Counted from the import: tests of a real node may run in between, for minutes.
SOON = Deadline.after(3_600.0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(shop())
    yield made
    await made.close()


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


async def test_items_of_several_indexes_that_share_an_id_are_told_apart(bench: Bench) -> None:
    old, new = (item("A", "apple computer", index=name, version=7) for name in ("old", "new"))
    new = replace(new, price=5.0, version=9)
    bench.catalogue.contents = {"A": old, "also A": new}
    bench.catalogue.shared = True
    bench.catalogue.generation = "old,new"
    index = await bench.items.index("shop", SOON)
    for _ in range(2):
        keys = [("old", "A"), ("new", "A")]
        found = (await bench.items.get(index, keys, SOON, [7, 9])).items
        assert found == {("old", "A"): old, ("new", "A"): new}
    assert bench.catalogue.reads == ["index", "items shop 1"]


async def test_another_version_is_read_anew(bench: Bench) -> None:
    await names(bench.items, "A")
    bench.catalogue.contents["A"] = replace(bench.catalogue.contents["A"], version=7)
    await names(bench.items, "A", versions=[7])
    await names(bench.items, "A", versions=[7])
    assert bench.catalogue.reads == ["index", "items shop 1", "items shop 1"]


async def test_an_older_version_than_the_one_that_is_kept_is_read_anew(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    for version, price in ((9, 100.0), (1, 50.0)):
        kept = replace(bench.catalogue.contents["A"], version=version, price=price)
        bench.catalogue.contents["A"] = kept
        found = await bench.items.get(index, ["A"], SOON, [version])
        assert found.items["A"].price == price


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


async def test_what_is_read_while_an_alias_is_switched_is_not_kept_as_of_the_old_index(
    bench: Bench,
) -> None:
    good = replace(bench.catalogue.contents["A"], version=5, price=100.0)
    bench.catalogue.contents["A"] = good
    index = await bench.items.index("shop", SOON)
    # What is behind the alias is known for two seconds; meanwhile it is another index, in which
    # the item has the same version.
    bench.catalogue.generation = "shop-2"
    bench.catalogue.contents["A"] = replace(good, price=50.0)
    found = await bench.items.get(index, ["A"], SOON, [5])
    assert not found.items
    assert isinstance(found.problem, Unavailable)
    # At once, and not after two seconds: the index is looked at again.
    index = await bench.items.index("shop", SOON)
    assert index.generation == "shop-2/first"
    assert (await bench.items.get(index, ["A"], SOON, [5])).items["A"].price == 50.0
    # And back: nothing of the other is left.
    bench.catalogue.generation = "shop-1"
    bench.catalogue.contents["A"] = good
    bench.clock.now += 3
    index = await bench.items.index("shop", SOON)
    assert (await bench.items.get(index, ["A"], SOON, [5])).items["A"].price == 100.0


async def test_nothing_of_an_index_is_seen_after_it_was_made_again_under_its_name(
    bench: Bench,
) -> None:
    old = replace(bench.catalogue.contents["A"], version=5, price=100.0)
    bench.catalogue.contents["A"] = old
    index = await bench.items.index("shop", SOON)
    assert (await bench.items.get(index, ["A"], SOON, [5])).items["A"].price == 100.0
    # Loaded in the same order, so that the item has the same version.
    bench.catalogue.contents["A"] = replace(old, price=50.0)
    bench.catalogue.uuid = "second"
    bench.clock.now += 3
    index = await bench.items.index("shop", SOON)
    assert (await bench.items.get(index, ["A"], SOON, [5])).items["A"].price == 50.0


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


async def test_ids_that_an_index_lacks_stay_within_the_bytes_too(bench: Bench) -> None:
    ids = [f"{number:0500d}" for number in range(500)]
    assert await names(bench.items, *ids) == set()
    tracemalloc.start()
    try:
        others = [f"{number:0500d}" for number in range(500, 1_000)]
        before, counted = tracemalloc.get_traced_memory()[0], bench.items.bytes
        assert await names(bench.items, *others) == set()
        del others
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 1.3 * (bench.items.bytes - counted)


async def test_an_item_larger_than_the_cache_is_used_all_the_same(bench: Bench) -> None:
    bench.catalogue.contents["A"] = item("A", "kettle " * 200_000)
    assert await names(bench.items, "A") == {"A"}


async def test_what_is_cached_is_there_when_opensearch_is_not(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    await bench.items.get(index, ["A"], SOON)
    bench.catalogue.error = Unavailable("down")
    found = await bench.items.get(index, ["A", "B"], SOON)
    assert (set(found.items), str(found.problem)) == ({"A"}, "down")


async def test_a_profile_is_kept_for_its_time_and_then_read_anew(bench: Bench) -> None:
    assert await bench.users.profile("u", SOON) == Profile()
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))
    assert await bench.users.profile("u", SOON) == Profile()
    bench.clock.now += 1.1
    assert await bench.users.profile("u", SOON) != Profile()


async def test_requests_of_one_user_at_one_time_share_a_read(bench: Bench) -> None:
    await asyncio.gather(*(bench.users.profile("u", SOON) for _ in range(5)))
    assert bench.catalogue.reads == ["events"]


async def test_a_read_that_began_before_an_update_does_not_serve_who_saw_the_update(
    bench: Bench,
) -> None:
    index = await bench.items.index("shop", SOON)
    gate = asyncio.Event()
    plain = bench.catalogue.items

    async def slow(*asked: object) -> list[Item]:
        found = await plain(*asked)  # type: ignore[arg-type]
        await gate.wait()
        return found

    bench.catalogue.items = slow  # type: ignore[method-assign]
    before = asyncio.create_task(bench.items.get(index, ["A"], SOON, [-1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.clock.now += 1
    updated = replace(bench.catalogue.contents["A"], version=7, price=5.0)
    bench.catalogue.contents["A"] = updated
    bench.catalogue.items = plain  # type: ignore[method-assign]
    after = await bench.items.get(index, ["A"], SOON, [7])
    assert after.items["A"].price == 5.0
    # The old one arrives last, and does not put the new one out of the cache.
    gate.set()
    await before
    reads = len(bench.catalogue.reads)
    assert (await bench.items.get(index, ["A"], SOON, [7])).items["A"].price == 5.0
    assert len(bench.catalogue.reads) == reads


async def test_an_item_that_is_gone_is_gone_from_the_cache_when_its_time_is_up(
    bench: Bench,
) -> None:
    assert await names(bench.items, "A") == {"A"}
    del bench.catalogue.contents["A"]
    bench.clock.now += 31
    assert await names(bench.items, "A") == set()
    assert await names(bench.items, "A") == set()
    assert bench.catalogue.reads.count("items shop 1") == 2


async def test_a_read_of_events_from_before_a_click_does_not_serve_who_comes_after(
    bench: Bench,
) -> None:
    gate = asyncio.Event()
    plain = bench.catalogue.events

    async def slow(*asked: object) -> Profile:
        found = await plain(*asked)  # type: ignore[arg-type]
        await gate.wait()
        return found

    bench.catalogue.events = slow  # type: ignore[method-assign]
    before = asyncio.create_task(bench.users.profile("u", SOON))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bench.catalogue.events = plain  # type: ignore[method-assign]
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))
    bench.clock.now += 1.1  # the time that events are kept
    assert await bench.users.profile("u", SOON) != Profile()
    gate.set()
    assert await before == Profile()
    # The old one has ended last, and does not put the new one out of the cache...
    assert await bench.users.profile("u", SOON) != Profile()
    assert bench.catalogue.reads == ["events", "events"]


async def test_a_read_from_before_a_click_is_not_kept_though_the_one_after_it_is_too_old(
    bench: Bench,
) -> None:
    gates = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    plain = bench.catalogue.events
    begun = iter(gates)

    async def slow(*asked: object) -> Profile:
        found = await plain(*asked)  # type: ignore[arg-type]
        await next(begun).wait()
        return found

    async def ask() -> "asyncio.Task[Profile]":
        asked = asyncio.create_task(bench.users.profile("u", SOON))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bench.clock.now += 1.1  # the time that events are kept
        return asked

    bench.catalogue.events = slow  # type: ignore[method-assign]
    before = await ask()
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))
    after = await ask()
    gates[1].set()
    await after
    bench.clock.now += 1.1
    gates[0].set()
    await before
    earlier = bench.users.earlier("u")
    assert earlier is not None
    assert earlier.interactions
    gates[2].set()
    assert await bench.users.profile("u", SOON) != Profile()


async def test_of_a_user_what_was_read_before_is_there_for_ten_minutes(bench: Bench) -> None:
    assert bench.users.earlier("u") is None
    liked = Profile(interactions=(Interaction("A", "click", 1),))
    bench.catalogue.users["u"] = liked
    await bench.users.profile("u", SOON)
    bench.catalogue.error = Unavailable("down")
    bench.clock.now += 599.0
    with pytest.raises(Unavailable):  # not passed off as what is
        await bench.users.profile("u", SOON)
    assert bench.users.earlier("u") == liked
    bench.clock.now += 1.0
    assert bench.users.earlier("u") is None


async def test_of_a_user_who_was_forgotten_the_next_read_leaves_nothing(bench: Bench) -> None:
    bench.catalogue.users["u"] = Profile(blocked_items=frozenset({"A"}))
    await bench.users.profile("u", SOON)
    del bench.catalogue.users["u"]
    bench.clock.now += 1.1
    await bench.users.profile("u", SOON)
    assert bench.users.earlier("u") == Profile()


async def test_a_read_that_is_too_large_to_be_kept_leaves_nothing_of_before(bench: Bench) -> None:
    bench.catalogue.users["u"] = Profile(blocked_items=frozenset({"A"}))
    await bench.users.profile("u", SOON)
    rows = tuple(Interaction("A" * 1_000, "click", n, "q" * 2_000) for n in range(500))
    bench.catalogue.users["u"] = Profile(interactions=rows)
    bench.clock.now += 1.1
    await bench.users.profile("u", SOON)
    assert bench.users.earlier("u") is None


async def test_what_a_user_who_was_forgotten_liked_is_forgotten_too(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    bench.catalogue.users["u"] = Profile(interactions=(Interaction("A", "click", 1),))
    profile = await bench.users.profile("u", SOON)
    await bench.users.taste(profile, index, bench.encoder, SOON)
    assert bench.users.profile_bytes > 0
    assert bench.users.taste_bytes > 0
    bench.clock.now += 601.0
    bench.users.expire()  # as the sidecar does now and then
    assert bench.users.profile_bytes == bench.users.taste_bytes == 0


async def test_what_a_user_likes_follows_an_update_of_the_items(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    profile = Profile(interactions=(Interaction("A", "click", 1),))

    async def interest() -> Floats | None:
        found, _ = await bench.users.taste(profile, index, bench.encoder, SOON)
        return found.interest

    assert await interest() == pytest.approx(vector("apple computer"))
    assert await interest() == pytest.approx(vector("apple computer"))
    lookups = {"cache": "taste", "outcome": "hit"}
    registry = bench.metrics.registry
    assert registry.get_sample_value("neuralrank_cache_lookups_total", lookups) == 1
    bench.catalogue.contents["A"] = item("A", "red kettle", version=7)
    # As the plugin asks for it, with the version that its search saw.
    await bench.items.get(index, ["A"], SOON, [7])
    assert await interest() == pytest.approx(vector("red kettle"))


async def test_what_a_user_likes_follows_the_alias_though_versions_are_alike(bench: Bench) -> None:
    profile = Profile(interactions=(Interaction("A", "click", 1),))
    for generation, text in (("shop-1", "apple computer"), ("shop-2", "red kettle")):
        bench.catalogue.generation = generation
        bench.catalogue.contents["A"] = item("A", text, version=1)
        bench.clock.now += 3
        index = await bench.items.index("shop", SOON)
        found, _ = await bench.users.taste(profile, index, bench.encoder, SOON)
        assert found.interest == pytest.approx(vector(text))


async def test_what_a_user_likes_is_not_kept_where_items_could_not_be_read(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    profile = Profile(interactions=(Interaction("A", "click", 1),))
    bench.catalogue.error = Unavailable("down")
    for _ in range(2):
        found, problem = await bench.users.taste(profile, index, bench.encoder, SOON)
        assert found.interest is None
        assert isinstance(problem, Unavailable)
    bench.catalogue.error = None
    found, problem = await bench.users.taste(profile, index, bench.encoder, SOON)
    assert found.interest == pytest.approx(vector("apple computer"))
    assert problem is None


async def test_what_is_blocked_with_the_same_events_is_no_longer_done(bench: Bench) -> None:
    index = await bench.items.index("shop", SOON)
    profile = Profile(interactions=(Interaction("A", "click", 1),))
    for blocked, events in ((frozenset[str](), 1), (frozenset({"A"}), 0), (frozenset({"B"}), 1)):
        asked = replace(profile, blocked_items=blocked)
        found, _ = await bench.users.taste(asked, index, bench.encoder, SOON)
        assert len(found.recent.events) == events


async def test_users_stay_within_their_bytes(bench: Bench) -> None:
    rows = tuple(Interaction(f"item-{n}", "click", n) for n in range(100))
    bench.catalogue.contents = {f"item-{n}": item(f"item-{n}", "kettle") for n in range(100)}
    index = await bench.items.index("shop", SOON)
    for number in range(60):
        name = f"user-{number}"
        own = (*rows, Interaction("item-0", "view", number))
        bench.catalogue.users[name] = Profile(interactions=own)
        profile = await bench.users.profile(name, SOON)
        assert len(profile.interactions) == 101
        found, _ = await bench.users.taste(profile, index, bench.encoder, SOON)
        assert found.interest is not None
    half = 2**19  # of parts.Bench
    assert 0 < bench.users.profile_bytes <= half
    assert 0 < bench.users.taste_bytes <= half
    assert 60 * profile.size > half
    assert 60 * found.size > half


async def test_a_user_larger_than_the_cache_is_answered_all_the_same(bench: Bench) -> None:
    rows = tuple(Interaction("A" * 1_000, "click", n, "q" * 2_000) for n in range(500))
    bench.catalogue.users["u"] = Profile(interactions=rows)
    assert (await bench.users.profile("u", SOON)).interactions == rows
    assert bench.users.profile_bytes == 0


async def test_a_read_that_is_too_old_is_not_joined() -> None:
    clock = Clock()
    reads = SharedReads(wait=10.0, clock=clock)
    gates = [asyncio.Event(), asyncio.Event()]
    begun: list[int] = []

    async def read() -> int:
        number = len(begun)
        begun.append(number)
        await gates[number].wait()
        return number

    first = asyncio.create_task(reads.get("key", read, SOON, 0.5))
    await asyncio.sleep(0)
    clock.now += 0.4
    joined = asyncio.create_task(reads.get("key", read, SOON, 0.5))
    await asyncio.sleep(0)
    clock.now += 0.2
    later = asyncio.create_task(reads.get("key", read, SOON, 0.5))
    await asyncio.sleep(0)
    for gate in gates:
        gate.set()
    assert await asyncio.gather(first, joined, later) == [0, 0, 1]


async def test_a_read_goes_on_when_its_request_gives_up() -> None:
    reads = SharedReads(wait=10.0)
    release = asyncio.Event()
    done = []

    async def slow() -> str:
        await release.wait()
        done.append("read")
        return "value"

    with pytest.raises(DeadlineExceeded, match=r"was waited for 0 ms, .*: raise deadline_ms"):
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


@pytest.mark.parametrize("keys", ["abc", "aaa"], ids=["of three", "of one, each too old to join"])
async def test_reads_do_not_pile_up_on_a_cluster_that_hangs(keys: str) -> None:
    clock = Clock()
    reads = SharedReads(wait=10.0, limit=2, clock=clock)

    async def hang() -> None:
        await asyncio.Event().wait()

    *begun, refused = keys
    for key in begun:
        with pytest.raises(DeadlineExceeded):
            await reads.get(key, hang, Deadline.after(0.0), 0.5)
        clock.now += 1.0
    with pytest.raises(Unavailable, match="2 reads from OpenSearch are under way"):
        await reads.get(refused, hang, SOON, 0.5)
    await reads.close()


async def test_closed_it_has_ended_what_was_under_way_and_begins_nothing() -> None:
    reads, ended = SharedReads(wait=10.0), 0

    async def hang() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:  # a client gives up in several steps
            for _ in range(5):
                await asyncio.sleep(0)
            ended += 1

    for key in ("a", "b"):
        with pytest.raises(DeadlineExceeded):
            await reads.get(key, hang, Deadline.after(0.0))
    await asyncio.sleep(0)
    await reads.close()
    assert ended == 2
    with pytest.raises(Unavailable, match="stops"):
        await reads.get("c", hang, SOON)


async def test_a_short_deadline_is_the_callers_and_a_long_silence_is_opensearchs() -> None:
    clock = Clock()
    reads = SharedReads(wait=0.25, clock=clock)

    async def hang() -> None:
        await asyncio.Event().wait()

    soon = Deadline.after(0.001, clock)
    with pytest.raises(DeadlineExceeded, match="Give more time"):
        await reads.get("a", hang, soon)
    clock.now += 0.3
    with pytest.raises(Unavailable, match=r"did not answer within 1 ms.*OPENSEARCH_TIMEOUT_MS"):
        await reads.get("b", hang, Deadline.after(0.001, clock))
    await reads.close()
    with pytest.raises(Unavailable, match="did not answer within 0 ms"):
        await SharedReads(wait=0.0).get("a", hang, SOON)
