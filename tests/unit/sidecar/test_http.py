"""The rerank APIs over HTTP: what others' clients send, and what they get."""

import asyncio
import gzip
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from neuralrank.errors import DeadlineExceeded, Overloaded, RateExceeded
from neuralrank.text.tokens import Tokens
from sidecar.deadline import Deadline
from sidecar.domain import Floats
from sidecar.http.cohere import CohereRequest
from sidecar.http.problems import problem
from sidecar.http.tei import TeiRequest, write_tei
from sidecar.http.texts import TextQuery, TextRanker, TextRanking, TextScore
from tests.unit.sidecar.parts import (
    Bench,
    WordEncoder,
    WordJudge,
    read_back,
    serving,
    shop,
    vector,
)
from tests.unit.sidecar.test_cascade import Fixed
from tests.unit.sidecar.test_service import Gate, entered
from tests.unit.sidecar.web import URL, application, web

QUERY = "red kettle"
DOCUMENTS = ["blue phone", "red kettle", "red phone", "huawei computer"]


def logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def count(bench: Bench, path: str, status: str) -> float:
    labels = {"method": path, "status": status}
    return bench.metrics.registry.get_sample_value("neuralrank_requests_total", labels) or 0.0


def scope(path: str) -> dict[str, Any]:
    """Of a POST, as a server gives it."""
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip


async def ask(bench: Bench, path: str, body: Any, **settings: Any) -> httpx.Response:
    async with web(bench, **settings) as client:
        return await client.post(path, json=body)


async def test_cohere_s_client_of_v1_works_unchanged(bench: Bench) -> None:
    transport = httpx.ASGITransport(application(bench))
    async with httpx.AsyncClient(transport=transport) as http:
        client = cohere.AsyncClient(api_key="any", base_url=URL, httpx_client=http)
        answer = await client.rerank(
            model="rerank-english-v3.0",
            query=QUERY,
            documents=[{"title": text, "text": "unread"} for text in DOCUMENTS],
            rank_fields=["title"],
            top_n=2,
            return_documents=True,
            max_chunks_per_doc=10,
        )
    assert [row.index for row in answer.results] == [1, 2]
    assert answer.results[0].relevance_score == pytest.approx(logistic(4.0))
    assert answer.results[0].document is not None
    assert answer.results[0].document.text == "unread"
    assert answer.meta is not None
    assert answer.meta.api_version is not None
    assert answer.meta.api_version.version == "1"
    assert answer.meta.warnings is None
    assert count(bench, "/v1/rerank", "OK") == 1


async def test_cohere_s_client_of_v2_works_unchanged(bench: Bench) -> None:
    transport = httpx.ASGITransport(application(bench))
    async with httpx.AsyncClient(transport=transport) as http:
        client = cohere.AsyncClientV2(api_key="any", base_url=URL, httpx_client=http)
        answer = await client.rerank(
            model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=4_096
        )
        with pytest.raises(cohere.BadRequestError) as caught:
            await client.rerank(model="rerank-v3.5", query=" ", documents=DOCUMENTS)
    assert [row.index for row in answer.results] == [1, 2, 0, 3]
    assert [row.relevance_score for row in answer.results] == pytest.approx(
        [logistic(4.0), logistic(0.0), logistic(-4.0), logistic(-4.0)]
    )
    assert "query is empty or blank" in caught.value.body["message"]


async def test_a_jina_model_gets_its_documents_as_jina_gives_them(bench: Bench) -> None:
    body = {
        "model": "jina-reranker-v2-base-multilingual",
        "query": QUERY,
        "documents": [{"text": text} for text in DOCUMENTS],
        "top_n": 1,
    }
    answer = (await ask(bench, "/v1/rerank", body)).json()
    assert answer["model"] == "judge@000000000002"
    assert answer["results"] == [
        {"index": 1, "relevance_score": logistic(4.0), "document": {"text": "red kettle"}}
    ]
    assert answer["usage"] == {"total_tokens": 0, "prompt_tokens": 0}
    bare = (await ask(bench, "/v1/rerank", body | {"return_documents": False})).json()
    assert bare["results"] == [{"index": 1, "relevance_score": logistic(4.0)}]
    refused = (await ask(bench, "/v1/rerank", body | {"documents": []})).json()
    assert refused["detail"] == refused["message"]
    assert "documents has 0 entries" in refused["detail"]


async def test_tei_s_shape(bench: Bench) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS, "return_text": True, "truncate": True}
    plain = (await ask(bench, "/rerank", body)).json()
    raw = (await ask(bench, "/rerank", body | {"raw_scores": True, "return_text": False})).json()
    assert plain[0] == {"index": 1, "score": logistic(4.0), "text": "red kettle"}
    assert [row["index"] for row in raw] == [1, 2, 0, 3]
    assert [row["score"] for row in raw] == [4.0, 0.0, -4.0, -4.0]
    assert set(raw[0]) == {"index", "score"}
    # As clients of several services send it.
    more = body | {"top_n": 1, "model": "bge-reranker"}
    assert (await ask(bench, "/rerank", more)).json() == plain


async def test_a_language_without_cross_encoder_is_compared_by_the_encoder(bench: Bench) -> None:
    assert bench.judge is not None
    body = {"query": "红色 kettle", "texts": ["red kettle", "blue phone", ""], "raw_scores": False}
    answer = (await ask(bench, "/rerank", body)).json()
    cosines = [float(vector("红色 kettle") @ vector(text)) for text in body["texts"][:2]]
    assert bench.judge.calls == []
    assert [row["index"] for row in answer] == [0, 1, 2]
    assert [row["score"] for row in answer] == pytest.approx([*((1 + c) / 2 for c in cosines), 0])


async def test_a_score_depends_on_its_own_text_alone(bench: Bench) -> None:
    def by_text(answer: list[dict[str, Any]]) -> dict[str, float]:
        return {row["text"]: row["score"] for row in answer}

    for query in (QUERY, "红色", "red thing without kettle"):
        body = {"query": query, "texts": DOCUMENTS, "return_text": True}
        together = by_text((await ask(bench, "/rerank", body)).json())
        turned = by_text((await ask(bench, "/rerank", body | {"texts": DOCUMENTS[::-1]})).json())
        alone: dict[str, float] = {}
        for text in DOCUMENTS:
            alone |= by_text((await ask(bench, "/rerank", body | {"texts": [text]})).json())
        assert together == turned == alone


BOTTLES = ["bottle with straw", "no straw bottle", "kettle", ""]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_what_a_query_excludes_is_not_read_and_moves_the_score(
    bench: Bench, path: str
) -> None:
    assert bench.judge is not None
    texts = "texts" if path == "/rerank" else "documents"
    body = {"query": "bottle without straw", texts: BOTTLES}
    answer = (await ask(bench, path, body)).json()
    rows = answer if path == "/rerank" else answer["results"]
    # Of "bottle" alone: 0 where a text has the word, else -4.
    assert {row["index"]: row.get("score", row.get("relevance_score")) for row in rows} == {
        1: pytest.approx((1 + logistic(0.0)) / 2),
        0: pytest.approx(logistic(0.0) / 2),
        2: pytest.approx(logistic(-4.0)),
        3: 0.0,
    }
    assert [row["index"] for row in rows] == [1, 0, 2, 3]


async def test_who_reads_is_told_by_the_language_of_the_whole_query() -> None:
    # What is wanted of it alone would be English.
    bench = Bench(shop(), judge=WordJudge(languages=("zh",)))
    assert bench.judge is not None
    body = {"query": "iPhone 不带盒", "texts": ["iPhone", "iPhone 盒"]}
    answer = (await ask(bench, "/rerank", body)).json()
    assert [row["index"] for row in answer] == [0, 1]
    assert bench.judge.calls
    await bench.close()


async def test_where_an_encoder_compares_what_a_query_excludes_counts_too(bench: Bench) -> None:
    texts = ["保温杯 带吸管", "保温杯 无吸管", "保温杯"]
    answer = (await ask(bench, "/rerank", {"query": "保温杯 不带吸管", "texts": texts})).json()
    cosines = [float(vector("保温杯") @ vector(text)) for text in texts]
    near = [(1 + cosine) / 2 for cosine in cosines]
    expected = {0: near[0] / 2, 1: (1 + near[1]) / 2, 2: near[2]}
    assert {row["index"]: row["score"] for row in answer} == pytest.approx(expected)


async def test_raw_scores_are_the_model_s_own_and_in_their_order(bench: Bench) -> None:
    body = {"query": "red bottle without straw", "texts": ["red bottle with straw", *BOTTLES[1:3]]}
    answer = (await ask(bench, "/rerank", body | {"raw_scores": True})).json()
    assert [(row["index"], row["score"]) for row in answer] == [(0, 4.0), (1, 0.0), (2, -4.0)]
    moved = (await ask(bench, "/rerank", body)).json()
    assert [row["index"] for row in moved] == [1, 0, 2]


async def test_no_raw_score_stands_for_a_text_that_was_not_read(bench: Bench) -> None:
    given = {"query": QUERY, "texts": [DOCUMENTS[0], " "], "raw_scores": True}
    answer = await ask(bench, "/rerank", given)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "Validation")
    assert "texts[1] is empty" in answer.json()["error"]
    late = TextRanking((TextScore(1, 0.9, 2.0), TextScore(0, 0.0, None)), "judge@2", ())
    asked = TeiRequest(query=QUERY, texts=DOCUMENTS[:2], raw_scores=True)
    with pytest.raises(DeadlineExceeded, match="1 of 2 texts were not read"):
        write_tei(asked, late)


async def test_exclusions_can_be_turned_off_for_all(bench: Bench) -> None:
    body = {"query": "bottle without straw", "documents": BOTTLES}
    answer = (await ask(bench, "/v1/rerank", body, exclusions=False)).json()
    # "bottle" and "straw" both.
    assert answer["results"][0] == {"index": 0, "relevance_score": logistic(4.0)}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize("usual", [True, False])
async def test_a_request_says_whether_its_exclusions_are_read(
    bench: Bench, path: str, usual: bool
) -> None:
    async def order(**more: Any) -> list[int]:
        body = {"query": "bottle without straw", "documents": BOTTLES, **more}
        answer = (await ask(bench, path, body, exclusions=usual)).json()
        return [row["index"] for row in answer["results"]][:2]

    read, whole = [1, 0], [0, 1]
    assert await order(exclusions=True) == read
    assert await order(exclusions=False) == whole
    assert await order(exclusions=None) == (read if usual else whole)


async def test_of_the_last_of_many_texts_its_title_counts_as_of_the_first(bench: Bench) -> None:
    texts = ["bottle with straw"] * 2_001
    answer = (await ask(bench, "/rerank", {"query": "bottle without straw", "texts": texts})).json()
    assert {row["score"] for row in answer} == {logistic(0.0) / 2}


@pytest.mark.parametrize("name", ["jina-reranker-v1-tiny-en", "rerank-v1-ours"])
@pytest.mark.parametrize("exact", [False, True])
async def test_a_bundle_that_is_called_as_others_models_are_is_asked_where_it_is_served(
    name: str, exact: bool
) -> None:
    bench = Bench(shop(), judge=WordJudge())
    ref = f"{name}@000000000003"
    more = serving(None, WordJudge(ref=ref)).loaded
    both = {**bench.models.serving.loaded, **more}
    bench.models.serving = replace(bench.models.serving, loaded=both)
    body = {"query": QUERY, "documents": DOCUMENTS, "model": ref if exact else name}
    assert (await ask(bench, "/v2/rerank", body)).json()["model"] == ref
    await bench.close()


@pytest.mark.parametrize(
    ("model", "status", "scored_by"),
    [
        ("judge", 200, "judge@000000000002"),
        ("judge@000000000002", 200, "judge@000000000002"),
        ("words", 200, "words@000000000001"),
        ("rerank-v4.0-pro", 200, "judge@000000000002"),
        ("jugde", 404, ""),
        ("judge@ffffffffffff", 404, ""),
        ("judge@", 404, ""),
    ],
)
async def test_the_model_is_the_one_that_was_named(
    bench: Bench, model: str, status: int, scored_by: str
) -> None:
    body = {"model": model, "query": QUERY, "documents": DOCUMENTS}
    answer = await ask(bench, "/v2/rerank", body)
    assert answer.status_code == status
    if scored_by:
        assert answer.json()["model"] == scored_by
    else:
        # Of both kinds that may be named.
        served = "Served: judge@000000000002, words@000000000001. "
        assert served in answer.json()["message"]


async def test_a_named_model_that_does_not_know_the_language_says_so(bench: Bench) -> None:
    body = {"model": "judge", "query": "红色 kettle", "documents": DOCUMENTS}
    answer = await ask(bench, "/v1/rerank", body)
    assert answer.json()["model"] == "words@000000000001"
    assert "does not know the query's language 'zh'" in answer.json()["meta"]["warnings"][0]
    assert answer.headers["x-neuralrank-degraded"] == "model_unavailable"


@pytest.mark.parametrize("model", ["", "judge"])
@pytest.mark.parametrize("query", ["12345", "195-50", "🎁"])
async def test_a_query_without_letters_is_read_as_one_of_any_language(
    bench: Bench, query: str, model: str
) -> None:
    body = {"model": model, "query": query, "documents": DOCUMENTS}
    answer = await ask(bench, "/v1/rerank", body)
    assert answer.json()["model"] == "judge@000000000002"
    assert "warnings" not in answer.json()["meta"]
    body = {"model": model, "query": query, "texts": DOCUMENTS, "raw_scores": True}
    answer = await ask(bench, "/rerank", body)
    assert {row["score"] for row in answer.json()} == {-4.0}  # the cross-encoder's logit
    assert "x-neuralrank-degraded" not in answer.headers


async def test_letters_of_a_script_that_is_not_known_are_no_part_number(bench: Bench) -> None:
    body = {"model": "judge", "query": "கணினி 12345", "documents": DOCUMENTS}
    answer = await ask(bench, "/v1/rerank", body)
    assert "the query's language 'unknown'" in answer.json()["meta"]["warnings"][0]


@pytest.mark.parametrize("bad", ["poison", "nan"])
async def test_a_text_that_the_encoder_can_not_read_costs_itself_alone(bad: str) -> None:
    bench = Bench(shop(), Picky())
    try:
        documents = [f"kettle {number}" for number in range(40)]
        documents[20] = bad
        answer = await ask(bench, "/v1/rerank", {"query": "kettle", "documents": documents})
        assert answer.status_code == 200
        last = answer.json()["results"][-1]
        assert (last["index"], last["relevance_score"]) == (20, 0.0)
        assert all(row["relevance_score"] > 0.9 for row in answer.json()["results"][:-1])
        assert answer.headers["x-neuralrank-degraded"] == "model_unavailable"
        assert "the encoder read 39 of 40 texts" in answer.json()["meta"]["warnings"][0]
        alone = await ask(bench, "/v1/rerank", {"query": "kettle", "documents": [bad]})
        assert alone.status_code == 503
    finally:
        await bench.close()


class Picky(WordEncoder):
    """What contains "poison" raises, "nan" gives NaN."""

    def run(self, batch: Sequence[Tokens]) -> Floats:
        texts = [read_back(tokens.ids) for tokens in batch]
        if any("poison" in text for text in texts):
            raise ZeroDivisionError("poison")
        rows = super().run(batch)
        rows[["nan" in text for text in texts]] = np.nan
        return rows


@pytest.mark.parametrize("reader", ["encoder", "cross_encoder"])
async def test_what_was_read_before_an_overload_is_answered(reader: str) -> None:
    bench = Bench(shop(), judge=WordJudge() if reader == "cross_encoder" else None,
                  queue_tokens=2_000)  # fmt: skip
    method = "read_passages" if reader == "encoder" else "score"
    work = getattr(bench.inference, method)
    times = 0

    async def full(*arguments: Any) -> Any:
        nonlocal times
        times += 1
        if times > 1:
            raise Overloaded("full")
        return await work(*arguments)

    setattr(bench.inference, method, full)
    try:
        documents = [f"kettle {number:04d} " + "x" * 50 for number in range(40)]
        body = {"query": "kettle", "documents": documents}
        answer = await ask(bench, "/v1/rerank", body)
        assert answer.status_code == 200
        scores = [row["relevance_score"] for row in answer.json()["results"]]
        assert 0 < sum(score > 0 for score in scores) < 40
        assert answer.headers["x-neuralrank-degraded"] == "overload"
        assert "of 40" in answer.json()["meta"]["warnings"][0]
        body["documents"] = ["another"]
        refused = await ask(bench, "/v1/rerank", body)
        assert refused.status_code == 429
    finally:
        await bench.close()


GOOD = {"query": QUERY, "documents": DOCUMENTS}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (GOOD | {"documets": []}, "'documets' is no field of this request; allowed are query, doc"),
        (GOOD | {"documents": []}, "documents has 0 entries; allowed are 1 to 10000"),
        (GOOD | {"documents": ["a"] * 100_000}, "documents has 100000 entries"),
        (GOOD | {"documents": ["a", 5]}, "documents[1]: got 5"),
        (GOOD | {"documents": [{"title": "a"}]}, "none of ['text'] is a text in it"),
        (GOOD | {"query": "x" * 3_000}, "query has 3000 characters"),
        (GOOD | {"top_n": 0}, "top_n: got 0, input should be greater than or equal to 1"),
        (GOOD | {"relevant_spans": {"mode": "enabled"}}, "relevant_spans.mode: got 'enabled'"),
        ({"documents": DOCUMENTS}, "query, field required"),
        ([], "body: got []"),
    ],
)
async def test_what_can_t_be_used_is_400_and_says_what_can(
    bench: Bench, body: Any, words: str
) -> None:
    answer = await ask(bench, "/v1/rerank", body)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert len(answer.json()["message"]) < 1_000
    assert count(bench, "/v1/rerank", "INVALID_ARGUMENT") == 1


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (3.0, "3")])
def test_a_caller_is_told_whole_seconds_that_are_enough(seconds: float, header: str) -> None:
    answer = problem("/v1/rerank", RateExceeded("too often", retry_after=seconds))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, header)


async def test_what_is_allowed_is_said_as_it_is_written(bench: Bench) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS}
    assert (await ask(bench, "/rerank", body | {"truncation_direction": "Right"})).is_success
    answer = await ask(bench, "/rerank", body | {"truncation_direction": "Left"})
    assert "got 'Left', input should be 'right' or 'Right'" in answer.json()["error"]


MANY = {str(number): 0 for number in range(1_000)}
TWO = {"name": "a", "arms": {"A": {}, "B": {"model": "b"}}}


@pytest.mark.parametrize(
    "more",
    [
        MANY,
        {"documents": [0] * 1_000},
        {"documents": [MANY]},
        {"rank_fields": [0] * 1_000},
        {"relevant_spans": MANY},
        {"experiment": TWO | MANY},
        {"experiment": TWO | {"arms": MANY}},
        {"experiment": TWO | {"arms": {"A": MANY, "B": {}}}},
        *({name: value} for name in CohereRequest.model_fields for value in ([0] * 1_000, MANY)),
    ],
    ids=lambda more: next(iter(more)),
)
def test_however_much_of_a_body_is_wrong_few_errors_are_made(more: Any) -> None:
    for kind, texts in ((CohereRequest, "documents"), (TeiRequest, "texts")):
        given = {"query": QUERY, texts: DOCUMENTS} | more
        errors = 0
        try:
            kind.model_validate(given)
        except ValidationError as error:
            errors = error.error_count()
        assert errors <= 10


async def test_of_many_unknown_fields_the_first_are_named(bench: Bench) -> None:
    answer = await ask(bench, "/v1/rerank", MANY | GOOD)
    assert answer.status_code == 400
    assert (
        "'0', '1', '2', '3', '4' is no field of this request; allowed are query, documents"
        in (answer.json()["message"])
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, {"b": None}]}, "got {'a': [1, {'b': None}]}, input"),
        ([0] * 1_000, "got [0, 0, 0"),
        ([[[["x" * 1_000]]]], "got [[['…']]], input"),
    ],
)
async def test_a_long_value_is_shown_in_part(bench: Bench, value: Any, shown: str) -> None:
    answer = await ask(bench, "/v1/rerank", GOOD | {"query": value})
    assert shown in answer.json()["message"]
    assert len(answer.json()["message"]) < 200


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b'{"query": "\xc3\x28", "documents": ["a"]}', b"", b'{"query": NaN}',
     b'{"query": "\\ud800", "documents": ["a"]}', b"[" * 100_000],
)  # fmt: skip
async def test_a_body_that_is_no_json_is_400(bench: Bench, content: bytes) -> None:
    async with web(bench) as client:
        for path in ("/v1/rerank", "/rerank"):
            answer = await client.post(
                path, content=content, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, answer.text
            assert answer.json().get("message") or answer.json()["error_type"] == "Validation"


async def test_a_megabyte_of_text_is_cut_and_too_many_bytes_are_413(bench: Bench) -> None:
    assert bench.judge is not None
    long = "red kettle " * 100_000
    body = {"query": QUERY, "documents": [long, "blue"], "max_tokens_per_doc": 30}
    answer = await ask(bench, "/v1/rerank", body)
    assert answer.status_code == 200
    assert max(map(len, bench.judge.texts)) == 120
    refused = await ask(bench, "/v1/rerank", body, http_max_body_bytes=2**16)
    assert refused.status_code == 413
    assert "allowed are 65,536" in refused.json()["message"]

    async def parts() -> Any:
        for _ in range(20):
            yield b" " * 2**13

    async with web(bench, http_max_body_bytes=2**16) as client:
        streamed = await client.post("/rerank", content=parts())
    assert (streamed.status_code, streamed.json()["error_type"]) == (413, "Validation")


@pytest.mark.parametrize(
    ("content_type", "content", "said"),
    [
        # What curl says of a body where it is told nothing.
        ("application/x-www-form-urlencoded", b'{"query": "a"}', "'application/x-www-form-urlenc"),
        ("", b'{"query": "a"}', "no Content-Type; allowed is application/json"),
        ("application/json", b"query=a", "a JSON value at character 0. Send a JSON object"),
    ],
)
async def test_what_is_wrong_with_a_body_that_is_not_read_is_said(
    bench: Bench, content_type: str, content: bytes, said: str
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    async with web(bench) as client:
        answer = await client.post("/v1/rerank", content=content, headers=headers)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
async def test_a_body_that_is_compressed_is_refused_and_not_taken_for_json(
    bench: Bench, path: str
) -> None:
    body = {"query": QUERY, "texts" if path == "/rerank" else "documents": DOCUMENTS}
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    async with web(bench) as client:
        packed = await client.post(
            path, content=gzip.compress(content), headers={**headers, "content-encoding": "gzip"}
        )
        plain = await client.post(
            path, content=content, headers={**headers, "content-encoding": "Identity"}
        )
    assert (packed.status_code, plain.status_code) == (415, 200)
    said = packed.json()
    assert "Content-Encoding is 'gzip'; allowed is none" in (said.get("error") or said["message"])
    assert packed.headers["accept-encoding"] == "identity"
    assert count(bench, path, "INVALID_ARGUMENT") == 1


async def test_a_body_that_does_not_come_is_given_up(bench: Bench) -> None:
    async def never() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with web(bench, http_body_seconds=0.01) as client:
        answer = await client.post("/v1/rerank", content=never())
    assert answer.status_code == 504
    assert "did not come within 0.01 s" in answer.json()["message"]


async def test_a_caller_that_hangs_up_before_its_body_is_there_takes_no_place(
    bench: Bench,
) -> None:
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"{", "more_body": True},
    ]

    async def receive() -> Any:
        return messages.pop()

    async def send(_: Any) -> None:
        raise AssertionError("nobody reads it")

    await application(bench)(scope("/rerank"), receive, send)
    assert count(bench, "/rerank", "CANCELLED") == 1


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        (b"x-request-id", b"a b", 400, "x-request-id has 3 characters"),
        (b"content-length", b"99999999999", 413, "The body has 99,999,999,999 bytes or more"),
    ],
)
async def test_what_the_head_says_refuses_a_request_before_its_body_is_received(
    bench: Bench, name: bytes, value: bytes, status: int, words: str
) -> None:
    async def receive() -> Any:
        raise AssertionError("the body")

    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    given = scope("/rerank")
    given["headers"] += [(name, value)]
    await application(bench)(given, receive, send)
    assert said[0]["status"] == status
    assert words in json.loads(said[1]["body"])["error"]


async def test_a_text_is_read_in_its_normal_form(bench: Bench) -> None:
    assert bench.judge is not None
    await ask(bench, "/rerank", {"query": "ｒｅｄ\u200b", "texts": [" ｋｅｔｔｌｅ\x00 "]})
    assert bench.judge.texts == ["kettle"]


async def test_a_path_with_a_slash_too_many_is_none_and_leads_nowhere(bench: Bench) -> None:
    async with web(bench) as client:
        answer = await client.post("/v1/rerank/", json=GOOD, headers={"Host": "elsewhere"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_ids_go_in_and_out(bench: Bench) -> None:
    async with web(bench) as client:
        given = await client.post("/v1/rerank", json=GOOD, headers={"X-Request-Id": "page-7"})
        made = await client.get("/nowhere")
        long = await client.get("/healthz", headers={"X-Request-Id": "x" * 129})
    assert (given.headers["x-request-id"], given.json()["id"]) == ("page-7", "page-7")
    assert len(made.headers["x-request-id"]) == 32
    assert (long.status_code, made.status_code) == (400, 404)
    assert "x-request-id has 129 characters" in long.json()["message"]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("9000", 200), ("000009000", 200), ("0", 400), ("soon", 400), ("1e3", 400),
        ("0000009000", 400), ("600001", 400), ("000000001" + "0" * 4_300, 400),
    ],
)  # fmt: skip
async def test_the_deadline_of_the_header_holds(bench: Bench, value: str, status: int) -> None:
    async with web(bench) as client:
        answer = await client.post("/v1/rerank", json=GOOD, headers={"X-Request-Timeout-Ms": value})
    assert answer.status_code == status, answer.text
    assert status != 400 or "from 1 to 600000" in answer.json()["message"]


@pytest.mark.parametrize(("milliseconds", "status"), [(1, 504), (100, 429), (600, 200)])
async def test_the_deadline_of_the_header_says_what_is_too_late(
    bench: Bench, milliseconds: int, status: int
) -> None:
    app = application(bench)
    admission = app._admission
    admission._effort.seconds = 0.4
    given = scope("/v1/rerank")
    given["headers"] += [(b"x-request-timeout-ms", str(milliseconds).encode())]
    bodies = [json.dumps(GOOD).encode()]
    said: list[Any] = []
    # Each takes 3 ms to come, from when it is waited for.
    comes = 0.0

    async def receive() -> Any:
        nonlocal comes
        if not bodies:  # the caller does not hang up
            await asyncio.Event().wait()
        comes = comes or time.monotonic() + 0.003
        while time.monotonic() < comes:
            await asyncio.sleep(0)
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    with admission.admitted("another", Deadline.never()):
        await app(given, receive, send)
    assert said[0]["status"] == status, said[1]["body"]


async def test_what_the_time_did_not_allow_for_stands_last_and_is_named() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    # The query's vector is known; the texts' run hangs.
    gate.go.set()
    try:
        async with web(bench) as client:
            await client.post("/rerank", json={"query": QUERY, "texts": ["red"]})
            gate.go.clear()
            answer = await client.post(
                "/rerank",
                json={"query": QUERY, "texts": DOCUMENTS},
                headers={"X-Request-Timeout-Ms": "40"},
            )
    finally:
        gate.go.set()
        await bench.close()
    assert answer.status_code == 504
    assert answer.json()["error_type"] == "Backend"
    assert "read 0 of 4 texts in time" in answer.json()["error"]


async def test_a_part_that_was_read_is_an_answer_with_the_rest_behind_it() -> None:
    judge = WordJudge(seconds=1.0)
    bench = Bench(judge=judge, cost=Fixed())
    judge.clock = bench.clock
    texts = TextRanker(bench.ranker, bench.models, bench.inference, bench.metrics)
    try:
        ranking = await texts.rank(
            TextQuery(QUERY, DOCUMENTS, 100), Deadline.after(3.1, bench.clock)
        )
    finally:
        await bench.close()
    assert [(score.index, score.raw) for score in ranking.scores] == [
        (1, 4.0), (0, -4.0), (2, None), (3, None)
    ]  # fmt: skip
    assert [score.score for score in ranking.scores[2:]] == [0.0, 0.0]
    assert [note.reason.value for note in ranking.degraded] == ["deadline"]


async def test_what_is_known_in_full_is_an_answer_in_full_though_no_time_is_left() -> None:
    bench = Bench(judge=WordJudge(), cost=Fixed())
    texts = TextRanker(bench.ranker, bench.models, bench.inference, bench.metrics)
    query = TextQuery(QUERY, DOCUMENTS, 100)
    try:
        read = await texts.rank(query, Deadline.never())
        again = await texts.rank(query, Deadline.after(0.0, bench.clock))
    finally:
        await bench.close()
    assert again.scores == read.scores
    # There is neither user nor index whose profile and features could be missed.
    assert again.degraded == ()


async def test_one_too_many_is_429_and_shares_its_limit_with_grpc() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    try:
        async with web(bench, max_in_flight=1) as client:
            body = {"query": QUERY, "texts": DOCUMENTS}
            first = asyncio.ensure_future(client.post("/rerank", json=body))
            await entered(gate)
            second = await client.post("/rerank", json=body)
            gate.go.set()
            assert (await first).status_code == 200
        assert second.status_code == 429
        assert second.json()["error_type"] == "Overloaded"
    finally:
        gate.go.set()
        await bench.close()


async def test_tokens_are_asked_for_where_there_are_some(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("shop: 0123456789abcdef\n")
    async with web(bench, tokens=str(tokens)) as client:
        answers = [
            await client.post("/v1/rerank", json=GOOD, headers=headers)
            for headers in (
                {},
                {"Authorization": "Bearer wrong-wrong-wrong"},
                {"Authorization": "Bearer 0123456789abcdef"},
            )
        ]
        probes = [(await client.get(path)).status_code for path in ("/healthz", "/readyz")]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    # One line a second, of the first; what was sent is in none.
    line = next(vars(entry) for entry in caplog.records if entry.message == "token refused")
    assert line["levelname"] == "WARNING"
    assert line["reason"] == "A token is needed, and none was sent"
    assert line["peer"] == "127.0.0.1"
    assert "wrong-wrong" not in caplog.text
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert probes == [200, 200]


async def test_who_may_not_ask_is_told_so_before_the_body_is_received(
    bench: Bench, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("shop: 0123456789abcdef\n")
    received = 0

    async def body() -> Any:
        nonlocal received
        for _ in range(4):
            received += 1
            yield b"["

    async with web(bench, tokens=str(tokens), http_max_body_bytes=2**16) as client:
        streamed = await client.post("/v1/rerank", content=body())
        large = await client.post("/rerank", content=b"[" * 2**17)
    assert (streamed.status_code, large.status_code) == (401, 401)
    assert received == 0
    assert count(bench, "/v1/rerank", "UNAUTHENTICATED") == 1


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("end", ["%0A", "%0D%0A", "%00"])
async def test_a_path_with_a_control_character_is_none_and_its_body_is_not_received(
    bench: Bench, tmp_path: Path, path: str, end: str
) -> None:
    """A route's pattern ends with "$", which matches before a newline, too: what is asked of the
    path itself would not be asked."""
    tokens = tmp_path / "tokens"
    tokens.write_text("shop: a-long-enough-secret\n")
    received = 0

    async def body() -> Any:
        nonlocal received
        received += 1
        yield json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()

    async with web(bench, tokens=str(tokens)) as client:
        answer = await client.post(f"{path}{end}", content=body())
    assert answer.status_code == 404
    assert received == 0
    assert count(bench, "other", "NOT_FOUND") == 1


async def test_who_is_over_a_limit_is_refused_before_the_body_is_decoded(bench: Bench) -> None:
    async with web(bench, caller_rate=0.1, caller_burst=1) as client:
        answers = [await client.post("/v1/rerank", content=b"{") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 429]


async def test_what_is_refused_is_counted_whatever_it_asked_for(bench: Bench) -> None:
    async with web(bench, http_max_body_bytes=2**16) as client:
        for path in ("/nowhere", "/somewhere"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/healthz", headers={"X-Request-Id": "a b"})).status_code == 400
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/rerank")).status_code == 405
        assert (await client.post("/rerank", content=b" " * 2**17)).status_code == 413
    found = {
        (sample.labels["method"], sample.labels["status"]): sample.value
        for family in bench.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "neuralrank_requests_total"
    }
    assert found == {
        ("other", "NOT_FOUND"): 2,
        ("other", "INVALID_ARGUMENT"): 1,
        ("/v1/rerank", "UNIMPLEMENTED"): 1,
        ("/rerank", "INVALID_ARGUMENT"): 1,
    }


async def test_a_caller_that_asks_too_often_is_told_when_to_come_back(bench: Bench) -> None:
    async with web(bench, caller_rate=0.1, caller_burst=1) as client:
        first = await client.post("/v1/rerank", json=GOOD)
        second = await client.post("/v1/rerank", json=GOOD)
    assert (first.status_code, second.status_code) == (200, 429)
    assert 1 <= int(second.headers["retry-after"]) <= 11


async def test_a_defect_is_500_without_its_innards(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret text")

    bench.ranker.rank = broken  # type: ignore[method-assign, assignment]
    answer = await ask(bench, "/v1/rerank", GOOD)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text
    assert count(bench, "/v1/rerank", "INTERNAL") == 1


async def test_probes_tell_alive_from_ready(bench: Bench) -> None:
    async with web(bench, ready=False) as client:
        starting = {
            path: (await client.get(path)).status_code
            for path in ("/healthz", "/readyz", "/health")
        }
    async with web(bench) as client:
        ready = {
            path: (await client.get(path)).status_code
            for path in ("/healthz", "/readyz", "/health")
        }
        info = (await client.get("/info")).json()
    assert starting == {"/healthz": 200, "/readyz": 503, "/health": 503}
    assert ready == {"/healthz": 200, "/readyz": 200, "/health": 200}
    assert (info["model_id"], info["model_sha"]) == ("judge", "000000000002")
    # In tokens, as TEI has them: of the model, and of one run.
    assert (info["max_input_length"], info["max_batch_tokens"]) == (64, 256)


def test_the_page_says_how_much_the_default_cross_encoder_reads() -> None:
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs/http.md").read_text("utf-8")
    (said,) = re.findall(r"default cross-encoder reads (\d+) tokens", page)
    manifest = json.loads((root / "neuralrank/models/small/manifest.json").read_text("utf-8"))
    assert int(said) == manifest["max_tokens"]


async def test_head_is_answered_as_get_without_a_body(bench: Bench) -> None:
    for ready in (False, True):
        async with web(bench, ready=ready) as client:
            for path in ("/healthz", "/readyz", "/health", "/nowhere"):
                asked, read = await client.head(path), await client.get(path)
                assert asked.status_code == read.status_code
                assert asked.headers["content-type"] == read.headers["content-type"]
                assert asked.headers["content-length"] == read.headers["content-length"]
                assert (asked.content, bool(read.content)) == (b"", True)
            # What works is for POST.
            assert (await client.head("/v1/rerank")).status_code == 405


async def test_without_models_a_rerank_is_503(bench: Bench) -> None:
    bench.models.serving = serving(None, None)
    answer = await ask(bench, "/v1/rerank", GOOD)
    assert answer.status_code == 503
    assert "No model is served" in answer.json()["message"]


async def test_a_model_that_fails_is_503(bench: Bench) -> None:
    assert bench.judge is not None
    bench.judge.error = RuntimeError("out of memory")
    answer = await ask(bench, "/v1/rerank", GOOD)
    assert answer.status_code == 503
    assert "Keep your own order" in answer.json()["message"]


async def test_metrics_are_prometheus_text(bench: Bench) -> None:
    async with web(bench) as client:
        await client.post("/v1/rerank", json=GOOD)
        plain = await client.get("/metrics")
        open_metrics = await client.get(
            "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
    assert 'neuralrank_requests_total{method="/v1/rerank",status="OK"} 1.0' in plain.text
    assert plain.headers["content-type"].startswith("text/plain")
    assert open_metrics.text.endswith("# EOF\n")


async def test_the_openapi_document_names_every_route(bench: Bench) -> None:
    async with web(bench) as client:
        document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/rerank", "/v2/rerank", "/rerank", "/healthz", "/readyz", "/health", "/info",
        "/metrics",
    }  # fmt: skip
    for path in ("/v1/rerank", "/rerank"):
        assert set(document["paths"][path]["post"]["responses"]) >= {"200", "400", "429", "504"}
    assert "HTTPValidationError" not in json.dumps(document)


def asks_until(gone: asyncio.Event) -> Callable[[], Awaitable[Any]]:
    """What ASGI receives of a caller that sends a rerank, and hangs up with the event."""
    body = json.dumps({"query": QUERY, "texts": DOCUMENTS}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive


async def test_work_of_a_caller_that_hung_up_is_given_up() -> None:
    gate = Gate()
    bench = Bench(shop(), gate)
    app = application(bench)
    hang_up = asyncio.Event()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        call = asyncio.ensure_future(app(scope("/rerank"), asks_until(hang_up), send))
        await entered(gate)
        hang_up.set()
        await call
    finally:
        gate.go.set()
        await bench.close()
    assert sent[0]["status"] == 499
    assert count(bench, "/rerank", "CANCELLED") == 1
    assert bench.metrics.registry.get_sample_value("neuralrank_in_flight_requests") == 0


async def test_what_ranks_for_a_caller_that_hung_up_is_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(*_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def send(_: Any) -> None:
        pass

    monkeypatch.setattr("sidecar.http.app.rank_in_experiment", work)
    await application(bench)(scope("/rerank"), asks_until(begun), send)
    async with asyncio.timeout(10):
        await ended.wait()


@pytest.mark.parametrize(("tokens", "read"), [(2, 8), (16, 64), (4_096, 64)])
async def test_of_a_document_no_more_is_read_than_the_setting_says(
    bench: Bench, tokens: int, read: int
) -> None:
    assert bench.judge is not None
    body = {"query": QUERY, "documents": ["x" * 100], "max_tokens_per_doc": tokens}
    assert (await ask(bench, "/v2/rerank", body, http_document_characters=64)).is_success
    assert bench.judge.texts == ["x" * read]
