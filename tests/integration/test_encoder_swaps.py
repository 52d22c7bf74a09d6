"""The encoder is swapped while requests run, beside an index that holds vectors of the first one: a
sidecar process of its own, over real gRPC, on the stack's OpenSearch."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from bench.running import Running
from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.encoder import Encoder
from neuralrank.models.bert import write_bert
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from opensearch_config import product_index
from tests.unit.conftest import CONFIG, HIDDEN, tiny_tokenizer, tiny_weights

SWAPS: Final = 20
INDEX: Final = "encoder-swaps"
PLAIN: Final = "encoder-swaps-plain"
ELSEWHERE: Final = "encoder-swaps-elsewhere"
NOT_PUBLISHED: Final = "swapped-encoder@0123456789ab"
LIKED: Final = "a lamp that is green"
TITLES: Final = ("red kettle", "blue phone", "green lamp", "warm socks", "a bread knife")
DEADLINE_MS: Final = 5_000
# Of a cosine, between the sidecar's batches and the bundle alone.
TOLERANCE: Final = 1e-3


@dataclass
class Seen:
    """What the load got: by kind of request the encoders that answered, and what was wrong."""

    encoders: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)

    def answered(self, kind: str, refs: list[str]) -> None:
        self.encoders.setdefault(kind, Counter()).update(refs)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Encoders of one name and length, of different weights: mixed vectors would look like good
    ones."""
    return [made(tmp_path_factory.mktemp(f"encoder-{seed}"), seed) for seed in (1, 2)]


def made(folder: Path, seed: int) -> Bundle:
    onnx.save(write_bert(tiny_weights(seed), CONFIG, "mean", "fp32"), str(folder / MODEL))
    tiny_tokenizer().save(str(folder / TOKENIZER))
    return write_bundle(
        folder,
        {
            "name": "swapped-encoder", "kind": "encoder", "max_tokens": 64, "dimensions": HIDDEN,
            "normalized": True, "precision": "fp32", "parent": str(seed),
        },
    )  # fmt: skip


@pytest.fixture
def cluster(stack: Settings, bundles: list[Bundle]) -> Iterator[OpenSearch]:
    """With an index of the first encoder, one of none, and one of an encoder that is nowhere."""
    encoder = Encoder.load(bundles[0])
    vectors = encoder.encode_passages(list(TITLES))
    with closing(connect(stack)) as client:
        for name, ref in ((INDEX, encoder.ref), (ELSEWHERE, NOT_PUBLISHED), (PLAIN, "")):
            client.indices.delete(index=name, params={"ignore_unavailable": "true"})
            body = product_index(ref, HIDDEN) if ref else {}
            client.indices.create(index=name, body=body)
            for number, (title, vector) in enumerate(zip(TITLES, vectors, strict=True)):
                document: dict[str, Any] = {"title": title}
                if ref:
                    document["text_vector"] = vector.tolist()
                client.index(index=name, id=str(number), body=document)
        client.indices.refresh(index=f"{INDEX},{PLAIN},{ELSEWHERE}")
        yield client
        client.indices.delete(index=f"{INDEX},{PLAIN},{ELSEWHERE}")


def test_a_swap_of_the_encoder_loses_no_request_and_mixes_no_vectors(
    stack: Settings, cluster: OpenSearch, bundles: list[Bundle], tmp_path: Path
) -> None:
    assert cluster.indices.exists(index=INDEX)
    (tmp_path / "models").mkdir()
    registry = Registry(str(tmp_path / "models"))
    first, second = (registry.publish(bundle).ref for bundle in bundles)
    registry.promote(first)
    alone = {ref: Encoder.load(registry.get(ref)) for ref in (first, second)}
    # The comparison can fail.
    one, other = (alone[ref].encode_queries(list(TITLES)) for ref in (first, second))
    assert np.abs(one - other).max() > 100 * TOLERANCE
    seen = Seen()
    with Running(
        tmp_path / "sidecar.log",
        opensearch_url=stack.opensearch_url,
        registry=registry.url,
        registry_poll_seconds=0.05,
        max_slowdown=1_000,
        # Node, load and tests share the cores: what they take is not to be taken for too many
        # requests.
        max_busy_percent=100,
    ) as sidecar:
        sidecar.ready()
        asyncio.run(_swapped_under_load(sidecar, registry, (first, second), alone, seen))
    assert not seen.failures
    assert not seen.mixed
    # Who names no index is answered by the one that serves; an index by its own.
    assert set(seen.encoders["encode"]) == {first, second}
    for kind in ("rank index", "encode index", "rank vectors"):
        assert set(seen.encoders[kind]) == {first}, kind
    assert set(seen.degraded) <= {"rank elsewhere ENCODER_MISMATCH"}
    assert seen.degraded["rank elsewhere ENCODER_MISMATCH"] == seen.encoders["rank elsewhere"][""]
    lines = [json.loads(line) for line in (tmp_path / "sidecar.log").read_text().splitlines()]
    assert not [line for line in lines if line["level"] == "ERROR"]


async def _swapped_under_load(
    sidecar: Running,
    registry: Registry,
    refs: tuple[str, str],
    alone: dict[str, Encoder],
    seen: Seen,
) -> None:
    async with grpc.aio.insecure_channel(
        sidecar.address, [("grpc.enable_http_proxy", 0)]
    ) as channel:
        stub: Any = pb_grpc.RankingStub(channel)
        calls: list[Callable[[int], Any]] = [
            lambda n: _rank_index(stub, refs[0], alone, seen, n),
            lambda n: _rank_vectors(stub, refs[0], alone, seen, n),
            lambda n: _encode(stub, "encode", pb.EncodeRequest(), alone, seen, n),
            lambda n: _encode(stub, "encode index", pb.EncodeRequest(index=INDEX), alone, seen, n),
            lambda n: _rank_without(stub, "rank plain", PLAIN, seen, n),
            lambda n: _rank_without(stub, "rank elsewhere", ELSEWHERE, seen, n),
        ]
        stop = asyncio.Event()

        async def ask(numbers: Iterator[int]) -> None:
            for number in numbers:
                if stop.is_set():
                    return
                try:
                    await calls[number % len(calls)](number)
                except grpc.aio.AioRpcError as error:
                    seen.failures.append(f"{number % len(calls)}: {error.details()}")
                await asyncio.sleep(0.01)

        numbers = iter(range(10**9))
        load = [asyncio.create_task(ask(numbers)) for _ in range(3)]
        try:
            for ref in islice(cycle((refs[1], refs[0])), SWAPS):
                await asyncio.to_thread(registry.promote, ref)
                async with asyncio.timeout(60):
                    while ref not in await _serving(stub):
                        await asyncio.sleep(0.02)
        finally:
            stop.set()
            await asyncio.gather(*load)


async def _serving(stub: Any) -> list[str]:
    rows = (await stub.ModelStatus(pb.ModelStatusRequest())).bundles
    return [f"{row.name}@{row.hash}" for row in rows if pb.BUNDLE_ROLE_SERVING in row.roles]


def _query(number: int) -> str:
    """Of its own, so that no cache answers it."""
    return f"{TITLES[number % len(TITLES)]} {number}"


async def _rank(stub: Any, kind: str, seen: Seen, request: pb.RankRequest) -> pb.RankResponse:
    request.options.explain = True
    request.options.deadline_ms = DEADLINE_MS
    request.options.bundle = "none"
    answer: pb.RankResponse = await stub.Rank(request)
    seen.answered(kind, list(answer.bundles) or [""])
    for note in answer.degraded:
        seen.degraded[f"{kind} {pb.DegradedReason.Name(note.reason).split('REASON_')[1]}"] += 1
    return answer


async def _rank_index(
    stub: Any, ref: str, alone: dict[str, Encoder], seen: Seen, number: int
) -> None:
    """By ids, for somebody who has only searched: query, user and items meet in one space."""
    interaction = pb.Interaction(action="query", query=LIKED, timestamp_ms=1)
    request = pb.RankRequest(
        query=_query(number),
        index=INDEX,
        candidates=[pb.Candidate(id=str(n)) for n in range(len(TITLES))],
        user=pb.User(profile=pb.Profile(interactions=[interaction])),
    )
    _compare(await _rank(stub, "rank index", seen, request), ref, alone, seen, request, LIKED)


async def _rank_vectors(
    stub: Any, ref: str, alone: dict[str, Encoder], seen: Seen, number: int
) -> None:
    """With vectors of an encoder that is named by its hash."""
    vectors = alone[ref].encode_passages(list(TITLES))
    request = pb.RankRequest(
        query=_query(number),
        candidates=[pb.Candidate(id=str(n), vector=row.tobytes()) for n, row in enumerate(vectors)],
        options=pb.RankOptions(encoder=ref),
    )
    _compare(await _rank(stub, "rank vectors", seen, request), ref, alone, seen, request)


def _compare(
    answer: pb.RankResponse,
    ref: str,
    alone: dict[str, Encoder],
    seen: Seen,
    request: pb.RankRequest,
    liked: str = "",
) -> None:
    """The answer's cosines with those of one encoder alone."""
    encoder = alone[ref]
    items = encoder.encode_passages(list(TITLES))
    wanted = items @ encoder.encode_queries([request.query])[0]
    users = items @ encoder.encode_queries([liked])[0] if liked else None
    for hit in answer.results:
        why, place = hit.explanation, int(hit.id)
        if abs(why.query_similarity - wanted[place]) > TOLERANCE:
            seen.mixed.append(f"query {request.query!r} {why.query_similarity} {wanted[place]}")
        if users is not None and abs(why.user_similarity - users[place]) > TOLERANCE:
            seen.mixed.append(f"user {request.query!r} {why.user_similarity} {users[place]}")


async def _encode(
    stub: Any,
    kind: str,
    request: pb.EncodeRequest,
    alone: dict[str, Encoder],
    seen: Seen,
    number: int,
) -> None:
    texts = [f"{_query(number)} {part}" for part in range(3)]
    request.inputs.extend(pb.EncodeInput(query=text) for text in texts)
    answer = await stub.Encode(request)
    seen.answered(kind, [answer.encoder])
    vectors = np.stack([np.frombuffer(one.vector, "<f4") for one in answer.encodings])
    expected: NDArray[np.float32] = alone[answer.encoder].encode_queries(texts)
    if np.abs(vectors - expected).max() > TOLERANCE:
        seen.mixed.append(f"{kind} {texts}")


async def _rank_without(stub: Any, kind: str, index: str, seen: Seen, number: int) -> None:
    """On an index whose vectors can't be used: ranked without them."""
    request = pb.RankRequest(
        query=_query(number),
        index=index,
        candidates=[pb.Candidate(id=str(n)) for n in range(len(TITLES))],
    )
    answer = await _rank(stub, kind, seen, request)
    if any(hit.explanation.HasField("query_similarity") for hit in answer.results):
        seen.mixed.append(f"{kind} {request.query!r}")
