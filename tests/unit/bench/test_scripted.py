"""The shops that stand in for OpenSearch understand what the sidecar asks of it."""

import aiohttp
import orjson
import pytest
from opensearchpy import AsyncOpenSearch

from bench.memory import Endless
from bench.scripted import INDEX, Shop, Site
from neuralrank.opensearch.packing import VECTOR
from sidecar.features.events import by_item, interactions, lasting, recent
from sidecar.features.opensearch import OpenSearchFeatures

ITEMS = {"1": {"title": "kettle"}}
REF = "encoder@1"
NOW = 1_790_000_000_000
USER = "user-1"


async def answers(shop: Shop) -> list[dict]:
    """To the two searches for a user's events."""
    index = {"index": "ubi_events"}
    lines = (index, recent(USER, 100, NOW), index, lasting(USER))
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    async with (
        Site(shop.app()) as site,
        aiohttp.ClientSession() as session,
        session.post(f"{site.url}/_msearch", data=body) as answer,
    ):
        assert answer.status == 200
        return list(orjson.loads(await answer.read())["responses"])


async def test_a_shop_has_the_events_of_the_user_that_the_sidecar_asks_for() -> None:
    shop = Shop(ITEMS)
    shop.add(USER, "view", "1", NOW - 2)
    shop.add(USER, "purchase", "2", NOW - 1)
    shop.add("user-2", "purchase", "3", NOW)
    recently, ever = await answers(shop)
    done = interactions(recently["hits"]["hits"], 100, NOW)
    assert [row.item_id for row in done] == ["2", "1"]
    assert by_item(ever, "ubi_events") == ({"2"}, set())


async def test_in_the_endless_shop_every_user_has_done_much() -> None:
    recently, ever = await answers(Endless(Shop(ITEMS)))
    done = interactions(recently["hits"]["hits"], 100, NOW)
    assert len({row.item_id for row in done}) == 100
    assert by_item(ever, "ubi_events") == (set(), set())


@pytest.mark.parametrize("shop", [Shop(ITEMS, REF, 4), Endless(Shop(ITEMS, REF, 4))])
async def test_the_sidecar_finds_the_index_its_encoder_and_items_with_vectors(shop: Shop) -> None:
    async with Site(shop.app()) as site, AsyncOpenSearch(site.url) as client:
        features = OpenSearchFeatures(
            client, events_index="e", vector_field=VECTOR, profile_events=100, text_characters=100
        )
        assert await features.encoders(5) == {REF}
        assert await features.has_events(5)
        index = await features.index(INDEX, 5)
        (item,) = await features.items(index, ["1"], 5)
    assert item.vector is not None
    # Else the sidecar takes it for one of another index than before.
    assert item.index in index.names
