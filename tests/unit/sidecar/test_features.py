"""Items as they are read: packed vectors where the index has them, the others where it has not."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, NotFound, Unavailable
from neuralrank.opensearch.connection import connect_async
from neuralrank.opensearch.packing import pack
from neuralrank.ubi import ITEM_PATH
from sidecar.domain import Interaction, Profile
from sidecar.features.opensearch import IndexInfo, OpenSearchFeatures
from tests.unit.answering import answering

VECTOR = np.array([0.6, 0.8], np.float32)
PLAIN = IndexInfo("shop", "shop-1", "e@1")
PACKS = IndexInfo("shop", "shop-1", "e@1", "text_vector_packed")


class Client:
    """Answers searches by id as OpenSearch does, from documents."""

    def __init__(self, documents: dict[str, dict[str, Any]], meta: Any = None) -> None:
        self.documents = documents
        self.meta = meta
        self.asked: list[tuple[list[str], str]] = []
        self.sizes: list[int] = []
        self.indices = self
        # Hits of events, what is counted of them by item, and what was asked for them.
        self.events: list[dict[str, Any]] = []
        self.counted: dict[str, Any] = {"hits": {"hits": []}}
        self.searched: list[dict[str, Any]] = []
        # What every search answers beside its hits, and whether it asked for all shards.
        self.said: dict[str, Any] = {}
        self.whole = ""

    async def search(self, *, body: dict[str, Any], params: Any, **_: Any) -> dict[str, Any]:
        self.whole = params.get("allow_partial_search_results", "")
        ids, fields = body["query"]["ids"]["values"], body["_source"]
        self.asked.append((sorted(ids), fields[0]))
        self.sizes.append(body["size"])
        hits = [
            {
                "_id": name,
                "_seq_no": 3,
                "_source": {k: v for k, v in self.documents[name].items() if k in fields},
            }
            for name in ids
            if name in self.documents
        ]
        return {"hits": {"hits": hits}, **self.said}

    async def msearch(self, *, body: list[dict[str, Any]], **_: Any) -> Any:
        self.searched += body
        hits = {"hits": {"hits": self.events}}
        answers = [self.counted if "aggs" in search else hits for search in body[1::2]]
        return {"responses": [{**answer, **self.said} for answer in answers]}

    async def get(self, **_: Any) -> Any:
        return self.meta

    async def get_mapping(self, *, index: str, **_: Any) -> Any:
        assert index == "*,-.*", "OpenSearch warns of requests that read system indexes"
        return self.meta


def features(client: Any) -> OpenSearchFeatures:
    return OpenSearchFeatures(
        client,
        events_index="ubi_events",
        vector_field="text_vector",
        profile_events=100,
        text_characters=1_000,
    )


def document(*, packed: bool) -> dict[str, Any]:
    vector = {"text_vector": VECTOR.tolist()}
    return {"title": "kettle", **vector, **({"text_vector_packed": pack(VECTOR)} if packed else {})}


async def test_packed_vectors_are_read_in_place_of_the_others() -> None:
    client = Client({"a": document(packed=True), "b": document(packed=True)})
    items = await features(client).items(PACKS, ["a", "b", "ghost"], 5.0)
    assert client.asked == [(["a", "b", "ghost"], "text_vector_packed")]
    assert [item.id for item in items] == ["a", "b"]
    assert all(item.vector is not None and item.vector == pytest.approx(VECTOR) for item in items)


async def test_documents_without_a_packed_vector_are_read_again() -> None:
    client = Client({"a": document(packed=True), "b": document(packed=False)})
    client.documents["c"] = {**document(packed=False), "text_vector_packed": "damaged"}
    items = await features(client).items(PACKS, ["a", "b", "c"], 5.0)
    assert client.asked[1:] == [(["b", "c"], "text_vector")]
    assert sorted(item.id for item in items) == ["a", "b", "c"]
    assert all(item.vector is not None and item.vector == pytest.approx(VECTOR) for item in items)


async def test_one_without_a_vector_takes_none_from_another_of_its_id() -> None:
    """Product 1 of two indexes, the second of which has no vectors."""

    class Two(Client):
        async def search(self, *, body: dict[str, Any], params: Any, **_: Any) -> dict[str, Any]:
            answer = await super().search(body=body, params=params)
            (hit,) = answer["hits"]["hits"]
            bare = {"_index": "bare", "_id": "1", "_seq_no": 1, "_source": {"title": "x"}}
            return {"hits": {"hits": [hit | {"_index": "packs"}, bare]}}

    packed_only = document(packed=True)
    packed_only.pop("text_vector", None)
    client = Two({"1": packed_only})
    items = await features(client).items(PACKS, ["1"], 5.0)
    found = {item.index: item.vector for item in items}
    assert len(items) == 2
    assert found["bare"] is None
    assert found["packs"] is not None


async def test_items_of_all_indexes_that_share_ids_are_read() -> None:
    client = Client({"a": document(packed=False)})
    several = IndexInfo("shop", "shop-1/u1,shop-2/u2", "e@1")
    await features(client).items(several, [str(number) for number in range(6_000)], 5.0)
    assert {len(ids) for ids, _ in client.asked} == {1_000}
    assert client.sizes == [2_000] * 6
    many = IndexInfo("shop", ",".join(map(str, range(40))), "e@1")
    client.sizes.clear()
    await features(client).items(many, [str(number) for number in range(500)], 5.0)
    assert client.sizes == [10_000, 10_000], "no more than an index allows"


async def test_no_more_is_read_at_once_than_the_strictest_index_allows() -> None:
    documents = {str(number): document(packed=False) for number in range(45)}
    settings: list[dict[str, str]] = [{"max_result_window": "50"}, {"max_result_window": "20"}, {}]
    meta = {f"shop-{n}": {"settings": {"index": one}} for n, one in enumerate(settings)}
    client = Client(documents, meta)
    read = features(client)
    items = await read.items(await read.index("shop", 5.0), list(documents), 5.0)
    assert [item.id for item in items] == list(documents)
    assert max(client.sizes) <= 20


async def test_an_index_from_before_there_were_packed_vectors_is_read_as_ever() -> None:
    client = Client({"a": document(packed=False)})
    (item,) = await features(client).items(PLAIN, ["a"], 5.0)
    assert client.asked == [(["a"], "text_vector")]
    assert item.vector == pytest.approx(VECTOR)


@pytest.mark.parametrize(
    ("notes", "packed"),
    [
        ([{"packed_vectors": {"text_vector": "text_vector_packed"}}], "text_vector_packed"),
        ([{"packed_vectors": {"image_vector": "x"}}], ""),
        ([{}], ""),
        # An alias of an old index and a new one: what both have counts.
        # Documents of the other one are read a second time.
        ([{"packed_vectors": {"text_vector": "text_vector_packed"}}, {}], "text_vector_packed"),
    ],
)
async def test_the_mapping_says_where_packed_vectors_are(
    notes: list[dict[str, Any]], packed: str
) -> None:
    meta = {
        f"shop-{number}": {
            "mappings": {"_meta": {"neuralrank": {"encoder": "e@1", **note}}},
            "settings": {"index": {"uuid": f"u{number}"}},
        }
        for number, note in enumerate(notes)
    }
    info = await features(Client({}, meta)).index("shop", 5.0)
    assert info.packed == packed
    assert info.encoder == "e@1"
    assert info.generation == ",".join(f"shop-{number}/u{number}" for number in range(len(notes)))


async def test_an_index_that_was_made_again_under_its_name_is_another() -> None:
    found = [
        await features(Client({}, {"shop": {"settings": {"index": {"uuid": uuid}}}})).index(
            "shop", 5.0
        )
        for uuid in ("one", "two")
    ]
    assert found[0].generation != found[1].generation


async def test_a_pattern_that_no_index_matches_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"No index matches 'shop\*'"):
        await features(Client({}, {})).index("shop*", 5.0)


async def test_nothing_at_all_is_no_answer_on_an_index_that_was_named() -> None:
    with pytest.raises(Unavailable, match="none of its own"):
        await features(Client({}, {})).index("shop", 5.0)


def hit(action: str, at: int = 0, **source: Any) -> dict[str, Any]:
    """As a search for events answers it."""
    return {"_source": {"action_name": action, **source}, "sort": [1.0, at]}


def by_item(bought: list[Any], blocked: list[Any]) -> dict[str, Any]:
    """As a search that counts events by item answers."""
    counted = {
        name: {"items": {"buckets": [{"key": key, "doc_count": 1} for key in keys]}}
        for name, keys in (("bought", bought), ("blocked", blocked))
    }
    return {"hits": {"hits": []}, "aggregations": counted}


BASKET = {"event_attributes": {"object": [{"object_id": "A"}, {"object_id": "B"}]}}
FLAT = {"event_attributes.object.object_id": "A"}


async def test_events_of_any_shape_tell_of_each_of_their_items() -> None:
    client = Client({})
    client.events = [
        hit("add_to_cart", 3, **BASKET),
        hit("view", 2, **FLAT),
        hit("view", 1, user_query="kettle"),
        hit("login", 4),  # of nothing: neither an item nor a query
    ]
    found = await features(client).events("ann", 5.0)
    assert found.interactions == (
        Interaction("A", "add_to_cart", 3),
        Interaction("B", "add_to_cart", 3),
        Interaction("A", "view", 2),
        Interaction("", "view", 1, "kettle"),
    )


async def test_a_large_basket_makes_no_more_than_a_profile() -> None:
    client = Client({})
    ids = {"object_id": [str(number) for number in range(300)]}
    client.events = [hit("purchase", 3, event_attributes={"object": ids})]
    found = await features(client).events("ann", 5.0)
    assert [row.item_id for row in found.interactions] == [str(number) for number in range(100)]


async def test_what_an_item_repeats_pushes_out_nothing() -> None:
    """Such as a player that says every ten seconds that it is still watched."""
    client = Client({})
    client.events = [
        *(hit("watch", 5_000 - n, event_attributes={"object": {"object_id": "film"}})
          for n in range(400)),
        hit("purchase", 4_000, event_attributes={"object": {"object_id": "film"}}),
        hit("view", 3_000, **FLAT), hit("search", 2_000, user_query="kettle"),
        hit("search", 1_000, user_query="kettle"),
    ]  # fmt: skip
    found = await features(client).events("ann", 5.0)
    assert found.interactions == (
        Interaction("film", "purchase", 5_000),
        Interaction("A", "view", 3_000),
        Interaction("", "search", 2_000, "kettle"),
        Interaction("", "search", 1_000, "kettle"),
    )
    assert client.searched[1]["size"] == 500


async def test_the_newest_come_first_also_where_a_mapping_hides_items() -> None:
    client = Client({})
    # By what the mapping lets be found, the query tells of more: it comes first, and is older.
    client.events = [hit("search", 1, user_query="kettle"), hit("purchase", 3, **FLAT)]
    found = await features(client).events("ann", 5.0)
    assert [row.timestamp_ms for row in found.interactions] == [3, 1]


async def test_events_of_an_item_or_a_query_come_before_others() -> None:
    client = Client({})
    await features(client).events("ann", 5.0)
    search = client.searched[1]
    (first,) = search["query"]["bool"]["should"]
    assert {"exists": {"field": ITEM_PATH}} in first["constant_score"]["filter"]["bool"]["should"]
    assert search["sort"][0] == "_score"


async def test_what_was_bought_and_blocked_is_counted_by_item() -> None:
    client = Client({})
    client.counted = by_item(["A", "B"], ["C"])
    # What the mapping leaves out comes as it is.
    client.counted["hits"]["hits"] = [hit("purchase", **FLAT | {ITEM_PATH: "D"}), hit("block")]
    found = await features(client).events("ann", 5.0)
    assert found.purchased == {"A", "B", "D"}
    assert found.blocked_items == {"C"}
    assert len(client.searched) == 4, "one request"
    counted = client.searched[3]["aggs"]["bought"]["aggs"]["items"]["terms"]
    assert (counted["field"], counted["size"]) == (ITEM_PATH, 1_000)


TEXT = {"error": {"reason": "all shards failed"}, "status": 400}


@pytest.mark.parametrize("counted", [TEXT, by_item([7], [])], ids=["text", "numbers"])
async def test_where_items_can_not_be_counted_events_are_read(counted: dict[str, Any]) -> None:
    client = Client({})
    client.counted = counted
    number = {"event_attributes": {"object": {"object_id": "007"}}}
    client.events = [hit("block", **number), hit("purchase", **BASKET)]
    found = await features(client).events("ann", 5.0)
    assert found.purchased == {"A", "B"}
    assert found.blocked_items == {"007"}


async def test_a_search_that_failed_otherwise_is_no_answer() -> None:
    client = Client({})
    client.counted = {"error": {"reason": "too much memory"}, "status": 429}
    with pytest.raises(Unavailable, match=r"ubi_events can't be read.*too much memory"):
        await features(client).events("ann", 5.0)


async def test_without_an_index_of_events_nothing_is_known() -> None:
    assert await features(Client({})).events("ann", 5.0) == Profile()


async def test_what_was_stamped_later_than_now_counts_as_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    client = Client({})
    client.events = [hit("click", at, user_query="kettle") for at in (1_500_000, 5)]
    found = await features(client).events("ann", 5.0)
    assert [row.timestamp_ms for row in found.interactions] == [1_000_000, 5]
    # And OpenSearch is asked for none from more than a day ahead.
    without = client.searched[1]["query"]["bool"]["must_not"]
    assert without[0] == {"terms": {"action_name": ["impression", "block", "dislike"]}}
    bounds = without[1]["range"]["timestamp"]
    assert bounds == {"gt": 1_000_000 + 86_400_000, "format": "epoch_millis"}


AWAY = {"total": 2, "successful": 1, "skipped": 0, "failed": 1}
LOST = {"total": 2, "successful": 1, "skipped": 1, "failed": 0}
REJECTED = {
    "reason": "",
    "caused_by": {"reason": "Search rejected due to missing shards [[ubi_events][0]]"},
}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"_shards": AWAY}, "1 of 2 shards of {index} did not answer"),
        # Of an index that no node has any copy of, OpenSearch counts none as failed.
        ({"_shards": LOST}, "1 of 2 shards of {index} did not answer"),
        ({"timed_out": True, "_shards": {"total": 2, "successful": 2}}, "did not answer"),
        ({"error": REJECTED, "status": 503}, "{index} can't be read.*missing shards"),
    ],
    ids=["failed", "lost", "late", "refused"],
)
async def test_what_a_missing_shard_may_hold_is_not_taken_for_missing(
    said: dict[str, Any], words: str
) -> None:
    client = Client({"a": document(packed=False)})
    # An alias of two indexes, of which one is whole.
    both = IndexInfo("shop", "shop-1/u1,shop-2/u2", "e@1")
    client.said = said
    with pytest.raises(Unavailable, match=words.format(index="shop")):
        await features(client).items(both, ["a", "b"], 5.0)
    with pytest.raises(Unavailable, match=words.format(index="ubi_events")):
        await features(client).events("ann", 5.0)
    client.said = {"_shards": {"total": 2, "successful": 2, "skipped": 1, "failed": 0}}
    assert [item.id for item in await features(client).items(both, ["a", "b"], 5.0)] == ["a"]
    await features(client).events("ann", 5.0)
    assert client.whole == "false", "OpenSearch is to answer nothing instead of a part"
    assert client.searched[0]["allow_partial_search_results"] == "false"
    assert client.searched[2]["allow_partial_search_results"] == "false"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "NEURALRANK_OPENSEARCH_PASSWORD anew and restart the sidecar: .* refuses access"),
        (403, "Set its user's rights there.*: .* refuses access"),
        (429, "See its load and memory: .* too much to do"),
        (400, "See the mapping of its indexes: .* does not accept"),
        (500, "failed"),
    ],
)
async def test_nobody_who_asks_for_a_ranking_is_at_fault_for_what_opensearch_refuses(
    status: int, words: str
) -> None:
    reason = {"type": "security_exception", "reason": "no permissions", "root_cause": []}
    with answering((status, {"error": reason})) as server:
        async with connect_async(server.settings, retries=0) as client:
            read = features(client)
            for call in (
                read.items(PLAIN, ["a"], 5.0),
                read.events("ann", 5.0),
                read.encoders(5.0),
            ):
                with pytest.raises(Unavailable, match=words):
                    await call
            # Only of a name do callers know better.
            with pytest.raises(InvalidInput if status == 400 else Unavailable):
                await read.index("shop", 5.0)


async def test_encoders_are_those_that_indexes_of_products_name() -> None:
    meta = {
        "shop": {"mappings": {"_meta": {"neuralrank": {"encoder": "e@1"}}}},
        "old": {"mappings": {"_meta": {"neuralrank": {"encoder": ""}}}},
    }
    assert await features(Client({}, meta)).encoders(5.0) == {"e@1"}


@pytest.mark.parametrize(
    "mappings", [{}, {"_meta": {"neuralrank": {"encoder": "", "dimensions": 0}}}]
)
async def test_an_index_without_an_encoder_beside_one_that_has_one_mismatches_nothing(
    mappings: dict[str, Any],
) -> None:
    said = {"encoder": "e@1", "dimensions": 4, "packed_vectors": {"text_vector": "packed"}}
    meta = {
        "shop": {
            "mappings": {"_meta": {"neuralrank": said}},
            "settings": {"index": {"uuid": "u1"}},
        },
        "blog": {"mappings": mappings, "settings": {"index": {"uuid": "u2"}}},
    }
    info = await features(Client({}, meta)).index("both", 5.0)
    assert (info.encoder, info.packed, info.dimensions) == ("e@1", "packed", 4)
    assert info.generation == "blog/u2,shop/u1"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"brand": ["Apple"]}, {"brand": "Apple", "attributes": {}}),
        ({"brand": ["Apple", "Beats"], "attributes": {"brand": "A"}},
         {"brand": "Apple", "attributes": {"brand": ("Apple", "Beats")}}),
        ({"brand": 4711}, {"brand": "4711"}),
        ({"category": 17}, {"category": ("17",)}),
        ({"category": ["Home", ["Kettles", None, " "]]}, {"category": ("Home", "Kettles")}),
        ({"price": "12.5"}, {"price": 12.5}),
        ({"price": 10**400}, {"price": pytest.approx(float("nan"), nan_ok=True)}),
        # Of variants.
        ({"price": [5000]}, {"price": 5000.0}),
        ({"price": [[30], "20", "ask", None, 40]}, {"price": 20.0}),
        ({"price": ["ask"]}, {"price": pytest.approx(float("nan"), nan_ok=True)}),
        ({"in_stock": [False]}, {"in_stock": False}),
        ({"in_stock": [0, ["0"], "ask"]}, {"in_stock": False}),
        ({"in_stock": [0, 3]}, {"in_stock": True}),
        ({"in_stock": [False, "true"]}, {"in_stock": True}),
        ({"in_stock": []}, {"in_stock": True}),
        ({"in_stock": "false"}, {"in_stock": False}),
        ({"in_stock": False}, {"in_stock": False}),
        ({"in_stock": True}, {"in_stock": True}),
        # How many there are.
        ({"in_stock": 0}, {"in_stock": False}),
        ({"in_stock": "0"}, {"in_stock": False}),
        ({"in_stock": -2.0}, {"in_stock": False}),
        ({"in_stock": 3}, {"in_stock": True}),
        ({"in_stock": "0.5"}, {"in_stock": True}),
        ({"in_stock": "ask"}, {"in_stock": True}),
        ({"in_stock": None}, {"in_stock": True}),
        ({"attributes": "red"}, {"attributes": {}}),
        ({"attributes": [{"name": "size", "value": 3}]}, {"attributes": {}}),
        ({"attributes": {"size": {"cm": 3}, "new": True}},
         {"attributes": {"size": ("3",), "new": ("true",)}}),
        ({"attributes": {"volts": 230.0, "l": 1.7}},
         {"attributes": {"volts": ("230",), "l": ("1.7",)}}),
        ({"color": "Red"}, {"attributes": {"color": ("Red",)}}),
        ({"color": "Red", "attributes": {"color": ["Ruby"]}}, {"attributes": {"color": ("Ruby",)}}),
        ({"color": ["Red", "blue"], "attributes": {"color": None}},
         {"attributes": {"color": ("Red", "blue")}}),
    ],
)  # fmt: skip
async def test_fields_of_an_index_that_others_write_are_read_as_far_as_they_go(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    (item,) = await features(Client({"a": document(packed=False) | fields})).items(
        PLAIN, ["a"], 5.0
    )
    assert {name: getattr(item, name) for name in expected} == expected


FIELDS = (
    "title", "brand", "category", "color", "attributes", "bullet_points", "description", "price",
    "in_stock", "text_vector",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
async def test_a_document_of_any_shape_costs_the_others_nothing(odd: dict[str, Any]) -> None:
    client = Client({"a": document(packed=False), "b": document(packed=False) | odd})
    items = await features(client).items(PLAIN, ["a", "b"], 5.0)
    assert [item.id for item in items] == ["a", "b"]
    assert items[0].text == "kettle"
