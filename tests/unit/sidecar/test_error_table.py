"""The table of docs/services.md: what is out of the ordinary, sent over gRPC and over HTTP."""

import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from neuralrank.client import AsyncClient
from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.server import Sidecar
from tests.unit.sidecar.parts import WordJudge, serving, vector
from tests.unit.sidecar.secured import Files, secured
from tests.unit.sidecar.test_service import Gate

SERVICES = Path(__file__).resolve().parents[3] / "docs" / "services.md"
RANK = "/neuralrank.v1.Ranking/Rank"
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
SECRET = "shop-secret-0123456789"
PAST = datetime.now(UTC) - timedelta(days=1)
NO_CONNECTION = "no connection"
GET = "`GET` where `POST` is meant"
PASSED_OVER = "the same, to `/rerank`"
HTTP_ONLY = (GET, PASSED_OVER)


def documented() -> dict[str, tuple[str, str]]:
    """Of each row what was sent, gRPC's status and HTTP's; "" where there is none."""
    text = SERVICES.read_text("utf-8").partition("| what is sent | gRPC | HTTP |")[2]
    rows = [line.strip("|").split("|") for line in text.partition("\n\n")[0].splitlines()[2:]]
    found = {}
    for sent, by_grpc, by_http in rows:
        status = re.match(r" `(\w+)`", by_grpc)
        code = re.match(rf" (\d{{3}}|{NO_CONNECTION})", by_http)
        assert code, by_http
        found[sent.strip()] = (status[1] if status else "", code[1])
    return found


def message(*texts: str, **fields: Any) -> pb.RankRequest:
    rows = [pb.Candidate(id=str(number), text=text) for number, text in enumerate(texts)]
    return pb.RankRequest(query="red kettle", candidates=rows, **fields)


def body(*texts: str, **fields: Any) -> bytes:
    return json.dumps({"query": "red kettle", "texts": texts, **fields}).encode()


@dataclass
class Case:
    """One request, both ways; `settings` are the sidecar's."""

    grpc: bytes = field(default_factory=lambda: message("red", "blue").SerializeToString())
    http: bytes = field(default_factory=lambda: body("red", "blue"))
    timeout: float = 20.0
    metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {SECRET}"),)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = RANK
    verb: str = "POST"
    path: str = "/rerank"
    settings: Mapping[str, Any] = field(default_factory=dict)
    # "client" or "server": whose certificate has expired, where there is TLS.
    expired: str = ""
    compressed: bool = False
    # Whether the encoder hangs.
    stuck: bool = False


# An unknown field, number 999 with the value 1.
UNKNOWN = message("red").SerializeToString() + b"\xb8\x3e\x01"
CASES: dict[str, Callable[[], Case]] = {
    "a deadline that has passed on arrival": lambda: Case(
        timeout=-1.0, headers={"x-request-timeout-ms": "1"}
    ),
    "a deadline that is shorter than any stage": lambda: Case(
        pb.RankRequest(
            query="red",
            candidates=[pb.Candidate(id="0", vector=vector("red").tobytes())],
            options=pb.RankOptions(deadline_ms=20),
        ).SerializeToString(),
        headers={"x-request-timeout-ms": "20"},
        stuck=True,
    ),
    "no candidates": lambda: Case(message().SerializeToString(), body()),
    "100,000 candidates": lambda: Case(
        message(*["a"] * 100_000).SerializeToString(), body(*["a"] * 100_000)
    ),
    "1 MB of text in one candidate": lambda: Case(
        message("x" * 10**6).SerializeToString(), body("x" * 10**6)
    ),
    "invalid UTF-8": lambda: Case(
        message("red").SerializeToString().replace(b"red", b"\xff\xfe\xfd"),
        body("red").replace(b"red", b"\xff\xfe\xfd"),
    ),
    "a field that is not known": lambda: Case(
        UNKNOWN, body("red", documents=["red"]), path="/v1/rerank"
    ),
    "a wrong token, or none": lambda: Case(
        metadata=(("authorization", "Bearer another-0123456789"),),
        headers={"authorization": "Bearer another-0123456789"},
    ),
    "a client certificate that has expired": lambda: Case(expired="client"),
    "anything, to a sidecar whose own certificate has expired": lambda: Case(expired="server"),
    "a message over `MAX_MESSAGE_BYTES`, a body over `HTTP_MAX_BODY_BYTES`": lambda: Case(
        message(*["x" * 60_000] * 2).SerializeToString(),
        body("x" * 70_000),
        settings={"max_message_bytes": 2**16, "http_max_body_bytes": 2**16},
    ),
    "a message or a body that is compressed": lambda: Case(
        message("red" * 1_000).SerializeToString(),
        gzip.compress(body("red")),
        headers={"content-encoding": "gzip"},
        compressed=True,
    ),
    # As TEI does, on its own route alone.
    PASSED_OVER: lambda: Case(http=body("red", documents=["red"])),
    "a method or a path that there is not": lambda: Case(
        method="/neuralrank.v1.Ranking/Sort", path="/v3/rerank"
    ),
    GET: lambda: Case(verb="GET", http=b""),
}


@asynccontextmanager
async def running(folder: Path, case: Case) -> AsyncIterator[tuple[Sidecar, Files | None]]:
    """A whole sidecar with models of words, that lets in one token."""
    (folder / "tokens").write_text(f"shop: {SECRET}\n")
    files = Files(folder) if case.expired else None
    settings = {"http_listen": "127.0.0.1:0", "tokens": str(folder / "tokens"), **case.settings}
    if files:
        if case.expired == "server":
            files.issue(files.certificate, files.key, "127.0.0.1", not_after=PAST)
        settings |= files.settings(mutual=True)
    gate = Gate()
    if not case.stuck:
        gate.go.set()
    async with secured(folder, **settings) as made:
        await made.loaded()
        made.models.serving = serving(gate, None if case.stuck else WordJudge())
        try:
            yield made, files
        finally:
            gate.go.set()


def client_files(files: Files, case: Case) -> tuple[Path, Path]:
    return files.client("shop", **({"not_after": PAST} if case.expired == "client" else {}))


async def by_grpc(made: Sidecar, case: Case, files: Files | None) -> tuple[str, Any]:
    address = f"127.0.0.1:{made.port}"
    if files:
        certificate, key = (path.read_bytes() for path in client_files(files, case))
        credentials = grpc.ssl_channel_credentials(files.ca.read_bytes(), key, certificate)
        channel = grpc.aio.secure_channel(address, credentials, OPTIONS)
    else:
        channel = grpc.aio.insecure_channel(address, OPTIONS)
    async with channel:
        call = channel.unary_unary(case.method, response_deserializer=pb.RankResponse.FromString)
        try:
            packed = grpc.Compression.Gzip if case.compressed else None
            reply = await call(
                case.grpc, timeout=case.timeout, metadata=case.metadata, compression=packed
            )
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", reply


async def by_http(made: Sidecar, case: Case, files: Files | None) -> tuple[str, str]:
    verify: ssl.SSLContext | bool = True
    if files:
        verify = ssl.create_default_context(cafile=str(files.ca))
        verify.load_cert_chain(*client_files(files, case))
    url = f"{'https' if files else 'http'}://127.0.0.1:{made.http_port}{case.path}"
    headers = {"content-type": "application/json", "authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        try:
            answer = await client.request(
                case.verb, url, content=case.http, headers={**headers, **case.headers}, timeout=20
            )
        except httpx.TransportError:
            return NO_CONNECTION, ""
    return str(answer.status_code), answer.text


def test_each_row_has_its_case_and_each_case_its_row() -> None:
    assert set(documented()) == set(CASES)


@pytest.mark.parametrize("sent", [sent for sent in CASES if sent not in HTTP_ONLY])
async def test_grpc_answers_as_the_table_says(tmp_path: Path, sent: str) -> None:
    expected = documented()[sent][0]
    case = CASES[sent]()
    async with running(tmp_path, case) as (made, files):
        status, said = await by_grpc(made, case, files)
        assert status == expected, said
        if case.stuck:
            assert [hit.id for hit in said.results] == ["0"]
            assert pb.DEGRADED_REASON_DEADLINE in {note.reason for note in said.degraded}
        # Whatever came of it, the next one is answered.
        if not case.expired:
            assert (await by_grpc(made, Case(), files))[0] == "OK"


@pytest.mark.parametrize("sent", CASES)
async def test_http_answers_as_the_table_says(tmp_path: Path, sent: str) -> None:
    case = CASES[sent]()
    async with running(tmp_path, case) as (made, files):
        status, said = await by_http(made, case, files)
        assert status == documented()[sent][1], said
        if status not in ("200", NO_CONNECTION):
            answer = json.loads(said)
            assert answer.get("error") or answer.get("message")
        if not (case.expired or case.stuck):
            assert (await by_http(made, Case(), files))[0] == "200"


async def test_our_client_says_of_a_long_message_that_it_is_too_long(tmp_path: Path) -> None:
    case = CASES["a message over `MAX_MESSAGE_BYTES`, a body over `HTTP_MAX_BODY_BYTES`"]()
    async with (
        running(tmp_path, case) as (made, _),
        AsyncClient(f"127.0.0.1:{made.port}") as client,
    ):
        with pytest.raises(InvalidInput, match="NEURALRANK_SIDECAR_MAX_MESSAGE_BYTES"):
            await client.rank(pb.RankRequest.FromString(case.grpc))
