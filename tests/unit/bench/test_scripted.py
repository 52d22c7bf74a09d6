"""The shops that stand in for OpenSearch understand what the sidecar asks of it."""

import aiohttp
import orjson

from bench.memory import Endless
from bench.scripted import Shop, Site
from sidecar.features.events import by_item, interactions, lasting, recent

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
    shop = Shop({"1": {"title": "kettle"}})
    shop.add(USER, "view", "1", NOW - 2)
    shop.add(USER, "purchase", "2", NOW - 1)
    shop.add("user-2", "purchase", "3", NOW)
    recently, ever = await answers(shop)
    done = interactions(recently["hits"]["hits"], 100, NOW)
    assert [row.item_id for row in done] == ["2", "1"]
    assert by_item(ever, "ubi_events") == ({"2"}, set())


async def test_in_the_endless_shop_every_user_has_done_much() -> None:
    recently, ever = await answers(Endless(Shop({"1": {"title": "kettle"}})))
    done = interactions(recently["hits"]["hits"], 100, NOW)
    assert len({row.item_id for row in done}) == 100
    assert by_item(ever, "ubi_events") == (set(), set())
