"""The sidecar on a real OpenSearch, with real models, over real gRPC."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opensearchpy import OpenSearch

from neuralrank.bundles.registry import Registry
from neuralrank.catalogue.product import Product, document, passage
from neuralrank.client import AsyncClient, Client
from neuralrank.encoders.encoder import Encoder
from neuralrank.errors import EncoderMismatch, NotFound
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from opensearch_config import product_index, ubi_indexes
from sidecar.server import SERVICE, Sidecar
from sidecar.settings import SidecarSettings
from tests.unit.conftest import tiny_bundle

INDEX = "sidecar_test_products"
BARE = "sidecar_test_bare"
EVENTS = "sidecar_test_events"
AGAIN = "sidecar_test_again"
# Generous: tests share two cores with a node and a sidecar.
DEADLINE_MS = 5_000

COMPUTER, PHONE = ["数码", "电脑", "笔记本电脑"], ["数码", "手机", "智能手机"]
PRODUCTS = [
    {"id": "A", "title": "Apple MacBook 笔记本电脑", "brand": "Apple", "category": COMPUTER},
    {"id": "B", "title": "Dell XPS 笔记本电脑", "brand": "Dell", "category": COMPUTER},
    {"id": "C", "title": "华为 Mate 智能手机", "brand": "华为", "category": PHONE, "price": 2_000},
    {"id": "D", "title": "Apple iPhone 智能手机", "brand": "Apple", "category": PHONE},
    {
        "id": "K",
        "title": "red electric kettle",
        "brand": "Bodum",
        "color": "red",
        "in_stock": False,
    },
]


def event(user: str, action: str, item: str, minute: int, **fields: Any) -> dict[str, Any]:
    return {
        "user_id": user,
        "action_name": action,
        "timestamp": f"2026-11-20T10:{minute:02d}:00Z",
        "event_attributes": {"object": {"object_id": item}},
        **fields,
    }


HISTORY = [
    event("ann", "view", "A", 1),
    event("ann", "view", "B", 2),
    event("ann", "purchase", "A", 3),
    event("bob", "view", "D", 1),
    event("bob", "purchase", "C", 3),
    # From before users signed in: no user_id.
    {**event("", "view", "D", 1), "client_id": "device-7"},
    # Another's, on a device with the same name as a user.
    {**event("bob", "view", "C", 1), "client_id": "ann"},
    event("blocker", "view", "D", 0),
    event("blocker", "block", "B", 1),
    # From a device whose clock is wrong.
    {**event("tim", "view", "A", 1), "timestamp": "2099-01-01T00:00:00Z"},
    event("tim", "view", "D", 1),
    event("tim", "view", "C", 2),
]


@pytest.fixture(scope="module")
def cluster(stack: Settings) -> Iterator[OpenSearch]:
    """The stack's OpenSearch, with products and events of this module."""
    with closing(connect(stack)) as client:
        _clear(client)
        encoder = Encoder.load(Registry(stack.registry_path).get("multilingual-e5-small"))
        documents = [document(Product.from_row(row)) for row in PRODUCTS]
        vectors = encoder.encode_passages([passage(row) for row in documents])
        body = product_index(encoder.ref, encoder.dimensions)
        client.indices.create(index=f"{INDEX}_1", body={**body, "aliases": {INDEX: {}}})
        client.indices.create(index=BARE)
        for row, vector in zip(documents, vectors, strict=True):
            client.index(
                index=f"{INDEX}_1",
                body={**row, "text_vector": vector.tolist()},
                id=row["id"],
            )
            client.index(index=BARE, body=row, id=row["id"])
        client.indices.create(index=EVENTS, body=ubi_indexes()["ubi_events"])
        for row in HISTORY:
            client.index(index=EVENTS, body=row)
        client.indices.refresh(index=f"{INDEX}_1,{BARE},{EVENTS}")
        yield client
        _clear(client)


def _clear(client: OpenSearch) -> None:
    for name in (f"{INDEX}_1", f"{INDEX}_2", BARE, EVENTS):
        client.indices.delete(index=name, params={"ignore_unavailable": "true"})


@asynccontextmanager
async def sidecar(stack: Settings, **settings: Any) -> AsyncIterator[Sidecar]:
    made = Sidecar(
        SidecarSettings(
            **{
                "listen": "127.0.0.1:0",
                "events_index": EVENTS,
                "opensearch_timeout_ms": DEADLINE_MS,
                "max_deadline_ms": 60_000,
                "user_ttl_seconds": 0,
                "drain_seconds": 0,
                **settings,
            }
        ),
        stack,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture(scope="module")
async def running(stack: Settings, cluster: OpenSearch) -> AsyncIterator[Sidecar]:
    async with sidecar(stack) as made:
        await made.loaded()
        assert cluster.indices.exists(index=INDEX)
        yield made


async def on(running: Sidecar, method: str, *arguments: Any, **named: Any) -> Any:
    """One call of the client, beside the loop that the sidecar runs on."""

    def call() -> Any:
        with Client(f"127.0.0.1:{running.port}", timeout=60.0) as client:
            return getattr(client, method)(*arguments, **named)

    return await asyncio.to_thread(call)


async def rank(running: Sidecar, index: str = INDEX, **fields: Any) -> pb.RankResponse:
    candidates = [pb.Candidate(id=name) for name in ("C", "D", "K", "B", "A")]
    request = pb.RankRequest(index=index, candidates=candidates, **fields)
    request.options.deadline_ms = DEADLINE_MS
    answer: pb.RankResponse = await on(running, "rank", request)
    return answer


def ids(answer: pb.RankResponse) -> list[str]:
    return [hit.id for hit in answer.results]


def notes(answer: pb.RankResponse) -> set[str]:
    return {
        pb.DegradedReason.Name(note.reason).removeprefix("DEGRADED_REASON_").lower()
        for note in answer.degraded
    }


async def test_a_query_in_chinese_finds_the_computers_by_id_alone(running: Sidecar) -> None:
    answer = await rank(running, query="电脑", options=pb.RankOptions(explain=True))
    assert set(ids(answer)[:2]) == {"A", "B"}
    assert answer.results[0].explanation.HasField("cross_encoder_logit")
    assert notes(answer) == set()


async def test_a_query_in_a_language_that_no_cross_encoder_knows_says_so(running: Sidecar) -> None:
    answer = await rank(running, query="чайник", options=pb.RankOptions(explain=True))
    assert not any(hit.explanation.HasField("cross_encoder_logit") for hit in answer.results)
    assert notes(answer) == {"model_unavailable"}


async def test_an_english_query_is_read_by_the_cross_encoder(running: Sidecar) -> None:
    answer = await rank(running, query="electric kettle", options=pb.RankOptions(explain=True))
    assert ids(answer)[0] == "K"
    assert answer.results[0].explanation.HasField("cross_encoder_logit")
    assert notes(answer) == set()
    assert len(answer.bundles) == 2


async def test_without_a_query_each_user_gets_their_own_order(running: Sidecar) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0), explain=True)
    options.filters.exclude_purchased = True
    ann = await rank(running, user=pb.User(id="ann"), options=options)
    bob = await rank(running, user=pb.User(id="bob"), options=options)
    assert ids(ann)[0] == "B"
    assert ids(bob)[0] == "D"
    assert [(drop.id, drop.reason) for drop in ann.dropped] == [("A", pb.DROP_REASON_PURCHASED)]
    assert [(drop.id, drop.reason) for drop in bob.dropped] == [("C", pb.DROP_REASON_PURCHASED)]
    assert set(ann.results[0].explanation.because_of) == {"A", "B"}


async def test_a_clock_that_is_wrong_does_not_make_the_taste(running: Sidecar) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    answer = await rank(running, user=pb.User(id="tim"), options=options)
    assert set(ids(answer)[:2]) == {"C", "D"}


async def test_a_client_without_user_id_is_known_by_the_client_id(running: Sidecar) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    answer = await rank(running, user=pb.User(id="device-7"), options=options)
    assert ids(answer)[0] == "D"


async def test_an_unknown_user_and_an_empty_one_are_answered(running: Sidecar) -> None:
    unknown = await rank(running, query="electric kettle", user=pb.User(id="nobody"))
    anonymous = await rank(running, query="electric kettle")
    assert ids(unknown) == ids(anonymous)
    assert notes(unknown) == {"no_user"}


async def test_what_a_user_blocked_is_dropped(running: Sidecar) -> None:
    answer = await rank(running, user=pb.User(id="blocker"), options=pb.RankOptions(explain=True))
    assert [(drop.id, drop.reason) for drop in answer.dropped] == [
        ("B", pb.DROP_REASON_BLOCKED_ITEM)
    ]


async def test_blocks_take_no_place_of_what_a_user_likes(
    stack: Settings, cluster: OpenSearch
) -> None:
    assert cluster.indices.exists(index=INDEX)
    async with sidecar(stack, profile_events=1) as made:
        await made.loaded()
        answer = await rank(made, user=pb.User(id="blocker"))
    assert "no_user" not in notes(answer)


async def test_purchases_push_out_no_block(
    stack: Settings, cluster: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.features.events._FOREVER", 2)
    for minute, (action, item) in enumerate(
        [("block", "B"), ("purchase", "A"), ("purchase", "C"), ("purchase", "D")]
    ):
        cluster.index(index=EVENTS, body=event("wholesaler", action, item, minute))
    cluster.indices.refresh(index=EVENTS)
    async with sidecar(stack) as made:
        await made.loaded()
        options = pb.RankOptions(explain=True)
        answer = await rank(made, user=pb.User(id="wholesaler"), options=options)
    assert [drop.id for drop in answer.dropped] == ["B"]


async def test_who_buys_the_same_often_has_bought_other_things_too(
    stack: Settings, cluster: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.features.events._FOREVER", 2)
    for minute, item in enumerate("ABBB"):
        cluster.index(index=EVENTS, body=event("regular", "purchase", item, minute))
    cluster.indices.refresh(index=EVENTS)
    async with sidecar(stack) as made:
        await made.loaded()
        assert await dropped(made, "regular") == {"A", "B"}


async def test_pages_without_an_item_push_out_no_taste(
    stack: Settings, cluster: OpenSearch
) -> None:
    cluster.index(index=EVENTS, body=event("reader", "view", "D", 0))
    for minute in range(1, 5):
        row = event("reader", "page_view", "", minute, event_attributes={})
        cluster.index(index=EVENTS, body=row | ({"user_query": ""} if minute > 2 else {}))
    cluster.indices.refresh(index=EVENTS)
    async with sidecar(stack, profile_events=2) as made:
        await made.loaded()
        options = pb.RankOptions(weights=pb.Weights(retrieval=0), explain=True)
        answer = await rank(made, user=pb.User(id="reader"), options=options)
    assert ids(answer)[0] == "D"
    assert "no_user" not in notes(answer)


SHAPES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "flat": ({"event_attributes.object.object_id": "A"}, {"A"}),
    "half flat": ({"event_attributes": {"object.object_id": "A"}}, {"A"}),
    "objects": (
        {"event_attributes": {"object": [{"object_id": "A"}, {"object_id": "B"}]}},
        {"A", "B"},
    ),
    "ids": ({"event_attributes": {"object": {"object_id": ["A", "B"]}}}, {"A", "B"}),
}
# As an index becomes that nobody has given a mapping, and one that leaves items out.
TYPES: dict[str, dict[str, Any]] = {
    "keyword": {},
    "text": {"event_attributes": {"properties": {"object": {"properties": {"object_id": {
        "type": "text"
    }}}}}},
    "left out": {"event_attributes": {"type": "object", "enabled": False}},
}  # fmt: skip


@pytest.mark.parametrize("types", TYPES)
async def test_events_of_any_shape_and_mapping_are_read(
    stack: Settings, cluster: OpenSearch, types: str
) -> None:
    index = f"{EVENTS}_shapes"
    body = ubi_indexes()["ubi_events"]
    body = {**body, "mappings": {**body["mappings"]}}
    body["mappings"]["properties"] = {**body["mappings"]["properties"], **TYPES[types]}
    cluster.indices.create(index=index, body=body)
    try:
        for user, (shape, _) in SHAPES.items():
            for action in ("purchase", "view"):
                row = event(user, action, "", 1)
                row.pop("event_attributes")
                cluster.index(index=index, body=row | shape)
        cluster.indices.refresh(index=index)
        async with sidecar(stack, events_index=index) as made:
            await made.loaded()
            for user, (_, items) in SHAPES.items():
                assert await dropped(made, user) == items, user
                options = pb.RankOptions(weights=pb.Weights(retrieval=0), explain=True)
                answer = await rank(made, user=pb.User(id=user), options=options)
                reasons = {name for hit in answer.results for name in hit.explanation.because_of}
                assert reasons == items, user
    finally:
        cluster.indices.delete(index=index)


async def dropped(made: Sidecar, user: str) -> set[str]:
    """What is dropped for a user, of what they bought and blocked."""
    options = pb.RankOptions(explain=True)
    options.filters.exclude_purchased = True
    answer = await rank(made, user=pb.User(id=user), options=options)
    return {drop.id for drop in answer.dropped}


async def test_fields_of_the_index_are_filtered_on(running: Sidecar) -> None:
    options = pb.RankOptions(explain=True)
    options.filters.in_stock_only = True
    options.filters.max_price = 1_500
    options.filters.attributes.add(name="brand", values=["dell"], exclude=True)
    answer = await rank(running, options=options)
    reasons = {drop.id: pb.DropReason.Name(drop.reason) for drop in answer.dropped}
    assert reasons == {
        "C": "DROP_REASON_PRICE_RANGE",
        "K": "DROP_REASON_OUT_OF_STOCK",
        "B": "DROP_REASON_ATTRIBUTE_RULE",
    }


async def test_a_click_changes_the_very_next_query(running: Sidecar, cluster: OpenSearch) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    viewed = event("eve", "view", "B", 1)
    cluster.index(index=EVENTS, body=viewed, params={"refresh": "true"})
    before = await rank(running, user=pb.User(id="eve"), options=options)
    bought = event("eve", "purchase", "C", 2)
    cluster.index(index=EVENTS, body=bought, params={"refresh": "true"})
    after = await rank(running, user=pb.User(id="eve"), options=options)
    assert ids(before)[0] == "B"
    assert ids(after)[0] == "C"


async def test_a_purchase_is_known_however_much_came_after_it(
    running: Sidecar, cluster: OpenSearch
) -> None:
    rows = [event("old", "purchase", "A", 0)]
    rows += [event("old", "view", "C", 1 + n % 59) for n in range(120)]
    for row in rows:
        cluster.index(index=EVENTS, body=row)
    cluster.indices.refresh(index=EVENTS)
    options = pb.RankOptions(explain=True)
    options.filters.exclude_purchased = True
    answer = await rank(running, user=pb.User(id="old"), options=options)
    assert [drop.id for drop in answer.dropped] == ["A"]


async def test_similar_items_are_of_the_same_kind(running: Sidecar) -> None:
    options = pb.RankOptions(weights=pb.Weights(retrieval=0))
    assert ids(await rank(running, similar_to="C", options=options))[0] == "D"


async def test_vectors_for_queries_items_and_users_are_of_length_1(running: Sidecar) -> None:
    vectors = await on(
        running, "encode", queries=["电脑"], items=["A", "C"], users=["ann"], index=INDEX
    )
    assert [np.linalg.norm(vector) for vector in vectors] == pytest.approx([1.0] * 4, abs=1e-4)
    query, computer, phone, ann = vectors
    assert query @ computer > query @ phone
    assert ann @ computer > ann @ phone


async def test_the_example_of_the_documentation_runs(
    running: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "services.md"
    code = page.read_text("utf-8").split("```python\n")[1].split("```")[0]
    code = code.replace("127.0.0.1:50051", f"127.0.0.1:{running.port}")
    code = code.replace('"examples"', repr(INDEX)).replace("timeout=0.2", "timeout=60")
    await asyncio.to_thread(exec, code.replace("deadline_ms=100", f"deadline_ms={DEADLINE_MS}"), {})
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"A", "B", "C"}


async def test_an_index_without_vectors_is_ranked_by_text(running: Sidecar) -> None:
    answer = await rank(running, index=BARE, query="electric kettle")
    assert ids(answer)[0] == "K"
    with pytest.raises(EncoderMismatch, match="does not say which encoder"):
        await on(running, "encode", queries=["kettle"], index=BARE)


async def test_the_client_for_asyncio_does_what_the_other_does(running: Sidecar) -> None:
    async with AsyncClient(f"127.0.0.1:{running.port}", timeout=60.0) as client:
        candidates = [pb.Candidate(id=name) for name in "ABCDK"]
        requests = [
            pb.RankRequest(query=query, index=INDEX, candidates=candidates)
            for query in ("electric kettle", "笔记本电脑")
        ]
        kettle, computer = await asyncio.gather(*map(client.rank, requests))
        assert kettle.results[0].id == "K"
        assert {hit.id for hit in computer.results[:2]} == {"A", "B"}
        vectors = await client.encode(queries=["kettle"], items=["K"], index=INDEX)
        assert vectors[0] @ vectors[1] > 0.7
        (same, _) = await on(running, "encode", queries=["kettle"], items=["K"], index=INDEX)
        assert np.allclose(vectors[0], same)
        assert any(bundle.is_default for bundle in (await client.model_status()).bundles)
        with pytest.raises(NotFound, match="nowhere"):
            await client.encode(items=["K"], index="nowhere")


async def test_an_index_of_another_encoder_is_a_mismatch(
    running: Sidecar, cluster: OpenSearch
) -> None:
    cluster.indices.create(index=f"{INDEX}_2", body=product_index("another@0123456789ab", 384))
    with pytest.raises(EncoderMismatch, match="another@0123456789ab"):
        await on(running, "encode", queries=["kettle"], index=f"{INDEX}_2")
    answer = await rank(running, index=f"{INDEX}_2", query="electric kettle")
    assert "encoder_mismatch" in notes(answer)
    assert len(answer.results) == 5


async def test_an_index_that_is_not_there_is_not_found(running: Sidecar) -> None:
    with pytest.raises(NotFound, match="no such index"):
        await rank(running, index="sidecar_test_none")


async def test_a_pattern_that_matches_no_index_is_not_found(running: Sidecar) -> None:
    with pytest.raises(NotFound, match="No index matches"):
        await rank(running, index="sidecar_test_none*", query="x")


async def test_an_index_that_was_made_again_under_its_name_is_read_anew(
    stack: Settings, cluster: OpenSearch
) -> None:
    async def dropped(made: Sidecar, price: float) -> int:
        """Makes the index and asks for the item with the version that it has in it."""
        cluster.indices.delete(index=AGAIN, ignore_unavailable=True)
        body = {"id": "A", "title": "Apple MacBook", "price": price}
        cluster.indices.create(index=AGAIN)
        written = cluster.index(index=AGAIN, body=body, id="A", refresh=True)
        assert written["_seq_no"] == 0
        candidates = [pb.Candidate(id="A", version=0)]
        request = pb.RankRequest(index=AGAIN, candidates=candidates)
        request.options.filters.max_price = 60
        request.options.deadline_ms = DEADLINE_MS
        return int((await on(made, "rank", request)).total_dropped)

    try:
        async with sidecar(stack, index_ttl_seconds=0) as made:
            await made.loaded()
            assert await dropped(made, 100.0) == 1
            assert await dropped(made, 50.0) == 0
    finally:
        cluster.indices.delete(index=AGAIN, ignore_unavailable=True)


async def test_health_and_reflection_speak_for_the_service(running: Sidecar) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        for name in ("", SERVICE):
            request = health_pb2.HealthCheckRequest(service=name)
            answer = await health_pb2_grpc.HealthStub(channel).Check(request)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for reply in stub.ServerReflectionInfo(iter([asked])):
            assert SERVICE in {row.name for row in reply.list_services_response.service}


async def test_opensearch_down_is_answered_within_the_deadline(stack: Settings) -> None:
    nowhere = stack.model_copy(update={"opensearch_url": "http://127.0.0.1:1"})
    async with sidecar(nowhere) as made:
        await made.loaded()
        rows = [pb.Candidate(id="x", text="red kettle"), pb.Candidate(id="y", text="blue phone")]
        request = pb.RankRequest(
            query="kettle", index=INDEX, user=pb.User(id="ann"), candidates=rows
        )
        request.options.deadline_ms = DEADLINE_MS
        answer = await on(made, "rank", request)
    assert ids(answer) == ["x", "y"]
    assert "features_unavailable" in notes(answer)


async def test_what_is_published_while_running_serves_and_a_damaged_bundle_does_not(
    stack: Settings, tmp_path: Path
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    (tmp_path / "registry").mkdir()
    settings = {"registry": registry.url, "registry_poll_seconds": 0.05}
    async with sidecar(stack, **settings) as made:
        stub = health_pb2_grpc.HealthStub
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.port}") as channel:
            answer = await stub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            bundle = registry.publish(tiny_bundle(tmp_path / "bundle", "encoder"))
            broken = tmp_path / "registry" / "broken" / "0123456789ab"
            broken.mkdir(parents=True)
            (broken / "manifest.json").write_text("{}")
            async for reply in stub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        rows = {row.name: row for row in (await on(made, "model_status")).bundles}
        assert rows["broken"].state == pb.BUNDLE_STATE_REFUSED
        assert "manifest.json" in rows["broken"].reason
        assert rows["tiny-encoder"].state == pb.BUNDLE_STATE_SERVING
        (vector,) = await on(made, "encode", queries=["abc"])
        assert len(vector) == bundle.manifest.dimensions


async def test_a_client_that_watches_health_does_not_hold_up_the_end(stack: Settings) -> None:
    async with (
        sidecar(stack, drain_seconds=600) as made,
        grpc.aio.insecure_channel(f"127.0.0.1:{made.port}") as channel,
    ):
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watch = health_pb2_grpc.HealthStub(channel).Watch(request)
        await watch.read()
        async with asyncio.timeout(60):
            await made.stop()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sidecar.main", *arguments],
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    process = start("--listen", "127.0.0.1:0", "--registry", str(tmp_path))
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "listening" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(lines) + rest
    assert "stopped" in rest


def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start("--listen", address, "--registry", str(tmp_path))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert f"can't listen on {address}" in errors
    assert "NEURALRANK_SIDECAR_LISTEN" in errors


def test_the_stacks_own_sidecar_serves_the_default_models(stack: Settings) -> None:
    with Client(stack.sidecar, timeout=60.0) as client:
        deadline = time.monotonic() + 60
        while True:
            rows = client.model_status().bundles
            kinds = {row.kind for row in rows if row.state == pb.BUNDLE_STATE_SERVING}
            if kinds == {"encoder", "cross_encoder"} or time.monotonic() > deadline:
                break
    assert kinds == {"encoder", "cross_encoder"}
