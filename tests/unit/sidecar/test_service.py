"""The gRPC face on a real server: statuses, admission, deadlines, cancellation."""

import asyncio
import threading
import time
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.deadline import Deadline
from sidecar.domain import Interaction, Profile
from sidecar.rpc.incoming import Incoming
from sidecar.rpc.methods import add_ranking
from sidecar.rpc.service import RankingService
from sidecar.rpc.wire import read_rank
from sidecar.settings import SidecarSettings
from sidecar.sizes import in_trailer
from sidecar.telemetry.calls import Calls
from sidecar.telemetry.tracing import Tracing
from tests.unit.sidecar.parts import (
    WEIGHTS,
    Bench,
    WordEncoder,
    WordJudge,
    request,
    shop,
    vector,
)


@asynccontextmanager
async def serving(bench: Bench, **settings: Any) -> AsyncIterator[Any]:
    service = RankingService(
        bench.ranker,
        bench.vectors,
        bench.models,
        bench.metrics,
        Calls(Tracing(), slow_seconds=0.0),
        SidecarSettings(**{"deadline_ms": 5_000, **settings}),
        time.monotonic,
    )
    server = grpc.aio.server()
    add_ranking(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.RankingStub(channel)
        stub.service = service
        stub.channel = channel
        yield stub
    await server.stop(0)
    service.close()


def count(bench: Bench, method: str, status: str) -> float:
    labels = {"method": method, "status": status}
    return bench.metrics.registry.get_sample_value("neuralrank_requests_total", labels) or 0.0


async def test_a_message_of_far_more_than_is_allowed_is_refused_and_never_decoded(
    bench: Bench,
) -> None:
    candidates = b"\x22\x00" * 40_000
    assert len(pb.RankRequest.FromString(candidates).candidates) == 40_000
    async with serving(bench) as stub:
        rank = stub.channel.unary_unary("/neuralrank.v1.Ranking/Rank")
        with pytest.raises(grpc.RpcError) as caught:
            await rank(candidates)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 10000 candidates" in (caught.value.details() or "")
    assert count(bench, "Rank", "INVALID_ARGUMENT") == 1


async def test_a_candidate_whose_text_is_made_to_take_long_is_ranked_with_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def normalize(form: str, text: str) -> str:
        seen.append(text)
        return unicodedata.normalize(form, text)

    monkeypatch.setattr(
        "neuralrank.text.cleaning.unicodedata",
        SimpleNamespace(normalize=normalize, is_normalized=unicodedata.is_normalized),
    )
    made = request(query="apple computer")
    made.candidates.add(id="marks", text="a" + "\u0301\u0323" * 32_767)
    made.candidates.add(id="wide", text="\uff21" * 65_536)
    made.candidates.add(id="grows", text="\ufdfa" * 65_536)
    read = read_rank(made, WEIGHTS, characters=300).candidates.texts[-3:]
    # A letter and its marks, and what is read of the others.
    assert [len(text or "") for text in read] == [31, 300, 300]
    seen.clear()
    async with serving(bench) as stub:
        answer = await stub.Rank(made)
    assert {hit.id for hit in answer.results} == {row.id for row in made.candidates}
    # In pieces, of what is read and a little more: the second text in six, and once together.
    assert max(map(len, seen)) <= 64 * 18
    assert sum(map(len, seen)) < 6_000


async def test_what_a_cross_encoder_counts_is_said_of_those_that_it_read(bench: Bench) -> None:
    weights = pb.Weights(cross_encoder=0.75)
    options = pb.RankOptions(explain=True, max_reranked=2, weights=weights)
    async with serving(bench) as stub:
        answer = await stub.Rank(request(query="apple computer", options=options))
    said = [hit.explanation for hit in answer.results]
    read = [why.HasField("cross_encoder_logit") for why in said]
    assert sum(read) == 2 < len(read)
    assert [why.weights.HasField("cross_encoder") for why in said] == read
    assert {why.weights.cross_encoder for why in said if why.HasField("cross_encoder_logit")} == {
        0.75
    }


@pytest.mark.parametrize(
    "text",
    [
        "ordinary words of a product " * 200,
        "５００ｍｌ ｗａｔｅｒ　ｂｏｔｔｌｅ " * 200,
        "zero\u200b width\u200b signs " * 300,
        "caf\u0065\u0301 cr\u0065\u0300me " * 400,
        "电热水壶 " * 1_000,
    ],
)
async def test_no_more_of_a_text_need_be_sent_than_an_answer_says(text: str) -> None:
    judge = WordJudge()
    bench = Bench(judge=judge)
    made = pb.RankRequest(query="water", language="en", candidates=[pb.Candidate(id="x")])
    try:
        async with serving(bench) as stub:
            said = (await stub.Rank(made)).text_characters
            assert SidecarSettings().rerank_characters < said < len(text)
            for sent in (text, text[:said]):
                made.candidates[0].text = sent
                await stub.Rank(made)
    finally:
        await bench.close()
    # What is read of it is the same, and so its score is known.
    assert len([texts for texts in judge.calls if texts != [""]]) == 1


async def test_rank_answers_with_the_request_id_and_lists_drops_only_explained(
    bench: Bench,
) -> None:
    made = request(query="computer", request_id="r-1")
    made.options.filters.max_price = 1_500
    async with serving(bench) as stub:
        plain = await stub.Rank(made)
        made.options.explain = True
        explained = await stub.Rank(made)
    assert plain.request_id == "r-1"
    assert (plain.total_dropped, len(plain.dropped)) == (1, 0)
    assert not plain.results[0].HasField("explanation")
    assert [pb.DropReason.Name(row.reason) for row in explained.dropped] == [
        "DROP_REASON_PRICE_RANGE"
    ]
    assert explained.results[0].explanation.summary
    assert count(bench, "Rank", "OK") == 2


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (pb.RankRequest(query="x" * 3_000), "INVALID_ARGUMENT", "allowed are 2048"),
        (request(options=pb.RankOptions(bundle="nope")), "NOT_FOUND", "Served: judge@"),
        (pb.RankRequest(index="attic"), "NOT_FOUND", "attic"),
    ],
)
async def test_what_can_be_expected_is_never_internal(
    bench: Bench, made: pb.RankRequest, code: str, words: str
) -> None:
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(made)
    assert caught.value.code().name == code
    assert words in caught.value.details()
    assert count(bench, "Rank", code) == 1


async def test_a_bug_is_internal_without_its_innards(bench: Bench) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("user 42")

    bench.ranker.rank = broken  # type: ignore[method-assign, assignment]
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(request())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "user 42" not in caught.value.details()


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(0, 0.042), (200, 0.192), (8, 0.006)],  # 0: the default of 50 ms
)
async def test_a_rank_has_its_deadline_less_the_margin(
    bench: Bench, asked: int, seconds: float
) -> None:
    default = SidecarSettings.model_fields["deadline_ms"].default
    async with serving(bench, deadline_ms=default) as stub:
        await stub.Rank(request(query="computer", options=pb.RankOptions(deadline_ms=asked)))
    sample = "neuralrank_deadline_seconds_sum"
    found = bench.metrics.registry.get_sample_value(sample, {"method": "Rank"})
    assert found == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "timeout", "most"),
    [(600_000, None, 100), (600_000, 0.1, 600_000), (100, None, 600_000)],
)
async def test_late_is_what_comes_after_the_deadline_that_the_request_really_has(
    bench: Bench, asked: int, timeout: float | None, most: int
) -> None:
    made = request(query="computer", options=pb.RankOptions(deadline_ms=asked))
    times = {"max_deadline_ms": most, "deadline_ms": 50, "http_deadline_ms": 50}
    async with serving(bench, **times) as stub:
        admission = stub.service.admission
        admission._effort.seconds = 0.2
        words = "1 requests are in work, which take 200 ms"
        with (
            admission.admitted("another", Deadline.never()),
            pytest.raises(grpc.RpcError, match=words),
        ):
            await stub.Rank(made, timeout=timeout)


async def test_a_deadline_begins_before_the_request_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float] = []

    def slow(*arguments: Any, **named: Any) -> Any:
        bench.clock.now += 0.03
        return read_rank(*arguments, **named)

    async def rank(_query: Any, deadline: Deadline) -> Any:
        left.append(deadline.remaining())
        raise InvalidInput("enough")

    monkeypatch.setattr("sidecar.rpc.service.read_rank", slow)
    bench.ranker.rank = rank  # type: ignore[method-assign]
    async with serving(bench, deadline_ms=100) as stub:
        stub.service._allowance = replace(stub.service._allowance, clock=bench.clock)
        with pytest.raises(grpc.RpcError, match="enough"):
            await stub.Rank(request(query="computer"))
    assert left == [pytest.approx(0.092 - 0.03)]


async def test_a_deadline_that_has_passed_on_arrival_costs_nothing(bench: Bench) -> None:
    class Late:
        aborted: tuple[grpc.StatusCode, str] | None = None

        def time_remaining(self) -> float:
            return 0.0

        def invocation_metadata(self) -> None:
            return None

        def peer(self) -> str:
            return "ipv4:127.0.0.1:1"

        def set_trailing_metadata(self, _: object) -> None: ...

        async def abort(self, code: grpc.StatusCode, words: str) -> None:
            self.aborted = (code, words)
            raise asyncio.CancelledError

    async with serving(bench) as stub:
        # Both can't be used, which nobody finds out.
        rank = pb.RankRequest(candidates=[pb.Candidate(id="twice")] * 10_000)
        encode = pb.EncodeRequest(inputs=[pb.EncodeInput(query="")])
        for call in (stub.service.Rank, stub.service.Encode):
            late = Late()
            made = rank if call == stub.service.Rank else encode
            with pytest.raises(asyncio.CancelledError):
                await call(Incoming(made.SerializeToString(), type(made)), late)
            assert late.aborted is not None
            assert late.aborted[0] is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "had passed when the request arrived" in late.aborted[1]


class Gate(WordEncoder):
    """An encoder that waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def run(self, batch: Any) -> Any:
        self.entered.set()
        self.go.wait(10)
        return super().run(batch)


async def entered(gate: Gate) -> None:
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.wait, 10)


async def test_one_too_many_is_refused_at_once_and_the_others_are_answered() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    try:
        async with serving(bench, max_in_flight=1) as stub:
            first = asyncio.ensure_future(_rank(stub, "computer"))
            await entered(gate)
            with pytest.raises(grpc.RpcError) as caught:
                await stub.Rank(request(query="phone"))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "allowed are 1" in caught.value.details()
            gate.go.set()
            assert len((await first).results) == 4
            assert len((await stub.Rank(request(query="phone"))).results) == 4
    finally:
        gate.go.set()
        await bench.close()


async def _rank(stub: Any, query: str, timeout: float | None = None) -> pb.RankResponse:
    answer: pb.RankResponse = await stub.Rank(request(query=query), timeout=timeout)
    return answer


async def test_a_model_that_is_slow_costs_its_part_and_not_the_answer() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    try:
        async with serving(bench, deadline_ms=50) as stub:
            answer = await stub.Rank(request(query="computer"))
        notes = [pb.DegradedReason.Name(note.reason) for note in answer.degraded]
        assert "DEGRADED_REASON_DEADLINE" in notes
        assert len(answer.results) == 4
    finally:
        gate.go.set()
        await bench.close()


async def test_work_of_a_cancelled_request_is_not_begun() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    try:
        async with serving(bench) as stub:
            first = asyncio.ensure_future(_rank(stub, "computer"))
            await entered(gate)
            # The only worker is held: this one's model run waits.
            second = stub.Rank(request(query="phone"))
            while (bench.metrics.registry.get_sample_value("neuralrank_queued_runs") or 0) < 2:
                await asyncio.sleep(0)
            second.cancel()
            while count(bench, "Rank", "CANCELLED") < 1:
                await asyncio.sleep(0)
            gate.go.set()
            await first
            await stub.Rank(request(query="kettle"))
        assert gate.calls == [["computer"], ["kettle"]]
    finally:
        gate.go.set()
        await bench.close()


async def test_encode_gives_packed_vectors_in_order(bench: Bench) -> None:
    bench.catalogue.contents["bare"] = type(bench.catalogue.contents["A"])("bare", None)
    made = pb.EncodeRequest(
        index="shop",
        inputs=[
            pb.EncodeInput(item_id="A"),
            pb.EncodeInput(query="phone"),
            pb.EncodeInput(user=pb.User(id="nobody")),
            pb.EncodeInput(passage="dell computer"),
            pb.EncodeInput(item_id="bare"),
        ],
    )
    async with serving(bench) as stub:
        answer = await stub.Encode(made)
    vectors = [np.frombuffer(encoding.vector, "<f4") for encoding in answer.encodings]
    for place, text in ((0, "apple computer"), (1, "phone"), (3, "dell computer")):
        assert vectors[place] == pytest.approx(vector(text))
    assert (len(vectors[2]), len(vectors[4])) == (0, 0)
    assert "no events" in answer.encodings[2].missing
    assert "has no vector" in answer.encodings[4].missing
    assert (answer.encoder, answer.dimensions) == ("words@000000000001", 8)
    assert (bench.encoder.calls, bench.encoder.passages) == ([["phone"]], [["dell computer"]])


async def test_vectors_are_cut_to_the_index_where_the_encoder_allows_it(bench: Bench) -> None:
    bench.catalogue.dimensions = 4
    user = pb.User(profile=pb.Profile(interactions=[pb.Interaction(item_id="A", action="click")]))
    made = pb.EncodeRequest(
        index="shop",
        inputs=[
            pb.EncodeInput(query="apple"),
            pb.EncodeInput(item_id="A"),
            pb.EncodeInput(user=user, interests=2),
        ],
    )
    async with serving(bench) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Encode(made)
        assert refused.value.code().name == "FAILED_PRECONDITION"
        assert "holds vectors of 4 dimensions" in (refused.value.details() or "")
        bench.encoder.matryoshka = (2, 4)
        answer = await stub.Encode(made)
    assert answer.dimensions == 4
    whole = ("apple", "apple computer", "apple computer", "apple computer")
    made_of = [*answer.encodings, *answer.encodings[2].interests]
    for encoding, text in zip(made_of, whole, strict=True):
        first = vector(text)[:4]
        found = np.frombuffer(encoding.vector, "<f4")
        assert found == pytest.approx(first / np.linalg.norm(first))


async def test_a_user_is_encoded_as_what_they_touched(bench: Bench) -> None:
    user = pb.User(profile=pb.Profile(interactions=[pb.Interaction(item_id="C", action="click")]))
    made = pb.EncodeRequest(index="shop", inputs=[pb.EncodeInput(user=user)])
    async with serving(bench) as stub:
        answer = await stub.Encode(made)
    found = np.frombuffer(answer.encodings[0].vector, "<f4")
    assert found == pytest.approx(vector("huawei phone"))


async def test_users_of_one_request_are_read_beside_each_other(bench: Bench) -> None:
    reading, both = [], asyncio.Event()

    async def events(user: str, _timeout: float) -> Profile:
        reading.append(user)
        if len(reading) > 1:
            both.set()
        await both.wait()
        return Profile((Interaction("A" if user == "ann" else "C", "click", 1),))

    bench.catalogue.events = events  # type: ignore[method-assign]
    inputs = [pb.EncodeInput(user=pb.User(id=name)) for name in ("ann", "bob")]
    async with serving(bench) as stub:
        answer = await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))
    vectors = [np.frombuffer(encoding.vector, "<f4") for encoding in answer.encodings]
    assert vectors[0] == pytest.approx(vector("apple computer"))
    assert vectors[1] == pytest.approx(vector("huawei phone"))


async def test_interests_of_a_user_are_told_apart(bench: Bench) -> None:
    touched = [
        pb.Interaction(item_id="C", action="purchase"),
        pb.Interaction(item_id="A", action="click"),
    ]
    user = pb.User(profile=pb.Profile(interactions=touched))
    made = pb.EncodeRequest(
        index="shop",
        inputs=[
            pb.EncodeInput(user=user, interests=2),
            pb.EncodeInput(user=user, interests=1),
            pb.EncodeInput(user=user),
            pb.EncodeInput(user=pb.User(id="nobody"), interests=2),
        ],
    )
    async with serving(bench) as stub:
        whole = await stub.Encode(made)
    assert [len(encoding.interests) for encoding in whole.encodings] == [2, 1, 0, 0]
    first, second = whole.encodings[0].interests
    assert np.frombuffer(first.vector, "<f4") == pytest.approx(vector("huawei phone"))
    assert np.frombuffer(second.vector, "<f4") == pytest.approx(vector("apple computer"))
    assert (first.share, second.share) == pytest.approx((5 / 6, 1 / 6))
    (only,) = whole.encodings[1].interests
    assert np.frombuffer(only.vector, "<f4") == pytest.approx(
        np.frombuffer(whole.encodings[1].vector, "<f4")
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (pb.EncodeInput(user=pb.User(id="u"), interests=9), "is 9; allowed are 0 to 8"),
        (pb.EncodeInput(query="phone", interests=2), "is 2, of query; only a user has them"),
        (pb.EncodeInput(item_id="A", collaborative=2), "is 2, of item_id"),
        (pb.EncodeInput(user=pb.User(id="u"), collaborative=1_001), "is 1001; allowed are 0 to"),
        (pb.EncodeInput(interests=2), "is 2, of nothing"),
        (pb.EncodeInput(query="phone", list_blocked=True), "is True, of query; only a user"),
        (pb.EncodeInput(item_id="A", list_purchased=True), "is True, of item_id"),
    ],
)
async def test_interests_that_cannot_be_are_refused(
    bench: Bench, entry: pb.EncodeInput, said: str
) -> None:
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Encode(pb.EncodeRequest(index="shop", inputs=[entry]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    named, _, details = (caught.value.details() or "").removeprefix("inputs[0].").partition(" ")
    assert getattr(entry, named)
    assert details.startswith(said)


async def test_what_a_user_is_not_to_be_shown_is_named_on_request() -> None:
    catalogue = shop()
    clicked = (Interaction("C", "click", 1),)
    never = {
        "purchased": frozenset({"b2", "b1", "both"}),
        "blocked_items": frozenset({"z", "both"}),
    }
    catalogue.users = {"u": Profile(clicked, **never), "back": Profile(**never)}
    bench = Bench(catalogue)
    asked = [{}, {"list_purchased": True}, {"list_blocked": True, "list_purchased": True}]
    inputs = [
        pb.EncodeInput(user=pb.User(id=name), **flags) for name in ("u", "back") for flags in asked
    ]
    async with serving(bench) as stub:
        answer = await stub.Encode(pb.EncodeRequest(index="shop", inputs=inputs))
    named = [list(encoding.excluded) for encoding in answer.encodings]
    assert named == [[], ["b1", "b2", "both"], ["both", "z", "b1", "b2"]] * 2
    await bench.close()


@pytest.mark.parametrize(
    ("holds", "encoder", "code"),
    [
        ("others@00000000000f", "", "FAILED_PRECONDITION"),
        ("others@00000000000f", "words", "FAILED_PRECONDITION"),
        ("", "", "FAILED_PRECONDITION"),
        ("words@000000000001", "nope", "NOT_FOUND"),
    ],
)
async def test_a_vector_of_the_wrong_space_is_an_error(
    bench: Bench, holds: str, encoder: str, code: str
) -> None:
    bench.catalogue.encoder = holds
    made = pb.EncodeRequest(index="shop", encoder=encoder, inputs=[pb.EncodeInput(query="phone")])
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Encode(made)
    assert caught.value.code().name == code


@pytest.mark.parametrize(
    "made",
    [
        pb.EncodeRequest(encoder="模" * 1_024, inputs=[pb.EncodeInput(query="phone")]),
        pb.EncodeRequest(index="shop", inputs=[pb.EncodeInput(item_id="模" * 1_024)]),
    ],
)
async def test_a_long_name_that_is_not_found_is_said_to_be_not_found(
    bench: Bench, made: pb.EncodeRequest
) -> None:
    """gRPC sends three bytes for each of a letter's three; what is over 8 KB is RESOURCE_EXHAUSTED
    to the client, whatever was sent."""
    async with serving(bench) as stub:
        for _ in range(8):
            with pytest.raises(grpc.RpcError) as caught:
                await stub.Encode(made)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@given(message=st.text(max_size=5_000))
def test_every_message_fits_a_trailer(message: str) -> None:
    sent = in_trailer(message)
    assert len(quote(sent, safe="")) < 8_000
    whole = message.encode("utf-8", "backslashreplace")
    assert sent == whole.decode() or whole.startswith(sent.removesuffix(" …").encode())


async def test_an_item_that_is_not_there_is_not_found(bench: Bench) -> None:
    made = pb.EncodeRequest(index="shop", inputs=[pb.EncodeInput(item_id="Z")])
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Encode(made)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_model_status_names_what_serves(bench: Bench) -> None:
    async with serving(bench) as stub:
        rows = (await stub.ModelStatus(pb.ModelStatusRequest())).bundles
    assert [(row.name, row.hash, row.kind, row.is_default) for row in rows] == [
        ("judge", "000000000002", "cross_encoder", True),
        ("words", "000000000001", "encoder", True),
    ]
    assert {row.state for row in rows} == {pb.BUNDLE_STATE_SERVING}


async def test_idle_waits_for_what_is_in_work() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    try:
        async with serving(bench) as stub:
            first = asyncio.ensure_future(_rank(stub, "computer"))
            await entered(gate)
            idle = asyncio.ensure_future(stub.service.admission.idle())
            await asyncio.sleep(0)
            assert not idle.done()
            gate.go.set()
            await first
            await idle
    finally:
        gate.go.set()
        await bench.close()


async def test_logs_name_neither_users_nor_items(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serving(bench) as stub:
        await stub.Rank(request("A", "secret-item", query="computer", user="secret-user"))
        with pytest.raises(grpc.RpcError):
            await stub.Rank(request("secret-item", "secret-item", user="secret-user"))
    assert "secret" not in caplog.text


# Field 1 of RankRequest, a string: 0xff is in no UTF-8. A length beyond the end. A group that ends
# without having begun.
@pytest.mark.parametrize("raw", [b"\x0a\x02\xff\xfe", b"\x0a\x7fabc", b"\x0c"])
@pytest.mark.parametrize("method", ["Rank", "Encode"])
async def test_bytes_that_are_no_message_are_the_callers_fault(
    bench: Bench, method: str, raw: bytes
) -> None:
    if method == "Encode":
        raw = raw.replace(b"\x0a", b"\x12")
    async with serving(bench) as stub:
        call = stub.channel.unary_unary(f"/neuralrank.v1.Ranking/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            await call(raw)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"{len(raw)} bytes of the request are no neuralrank.v1.{method}Request" in (
        caught.value.details()
    )
    assert count(bench, method, "INVALID_ARGUMENT") == 1


HOPELESS: dict[str, dict[str, Any]] = {
    "100,000 candidates": {"candidates": [pb.Candidate(id=str(n)) for n in range(100_000)]},
    "1 MB of text": {"candidates": [pb.Candidate(id="1", text="x" * 2**20)]},
    "NaN in a vector": {"candidates": [pb.Candidate(id="1", vector=b"\x00\x00\xc0\x7f" * 8)]},
    "infinity in a vector": {"candidates": [pb.Candidate(id="1", vector=b"\x00\x00\x80\x7f" * 8)]},
    "half a number": {"candidates": [pb.Candidate(id="1", vector=b"\x00" * 30)]},
    "another encoder's vector": {"candidates": [pb.Candidate(id="1", vector=b"\x00\x00\x80?" * 3)]},
}  # fmt: skip


@pytest.mark.parametrize("fields", HOPELESS.values(), ids=HOPELESS)
async def test_what_no_ranking_can_come_of_is_an_invalid_argument(
    bench: Bench, fields: dict[str, Any]
) -> None:
    async with serving(bench) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(pb.RankRequest(query="computer", **fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_no_candidates_are_no_error(bench: Bench) -> None:
    async with serving(bench) as stub:
        answer = await stub.Rank(pb.RankRequest(query="computer", index="shop"))
    assert len(answer.results) == answer.total_dropped == 0


@pytest.mark.parametrize(
    ("setting", "asked", "read"),
    [
        (True, None, "red kettle"),
        (True, False, "red kettle without blue"),
        (False, None, "red kettle without blue"),
        (False, True, "red kettle"),
    ],
)
async def test_what_a_query_excludes_is_read_as_the_request_says_else_the_setting(
    setting: bool, asked: bool | None, read: str
) -> None:
    bench = Bench()
    query = "red kettle without blue"
    said = {} if asked is None else {"exclusions": asked}
    inputs = [pb.EncodeInput(query=query)]
    try:
        async with serving(bench, exclusions=setting) as stub:
            answer = await stub.Encode(pb.EncodeRequest(inputs=inputs, index="shop", **said))
            assert bench.encoder.calls == [[read]]
            (found,) = answer.encodings
            assert np.frombuffer(found.vector, "<f4") == pytest.approx(vector(read))
            # The same vector is cached for ranking, which reads the same.
            made = request(query=query, options=pb.RankOptions(**said))
            await stub.Rank(made)
            assert bench.encoder.calls == [[read]]
    finally:
        await bench.close()
