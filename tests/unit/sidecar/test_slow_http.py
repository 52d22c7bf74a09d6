"""HTTP clients that are silent, slow or many, over real sockets: they lose their own connection."""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from sidecar.access.connections import most_open
from sidecar.http.connection import Patience
from sidecar.http.server import HttpServer
from tests.unit.sidecar.parts import Bench
from tests.unit.sidecar.secured import Files
from tests.unit.sidecar.web import application

HEAD = b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
ASKED = {"query": "red kettle", "texts": ["red kettle", "blue phone"]}
SHORT = 0.05


@asynccontextmanager
async def served(
    bench: Bench,
    *,
    connections: int = 100,
    handshake: float = SHORT,
    body: float = SHORT,
    answer: float = 20.0,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        application(bench, http_body_seconds=body, **settings),
        "127.0.0.1",
        0,
        connections=connections,
        patience=Patience(handshake, body, answer),
        tls=tls,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def client(server: HttpServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False)


async def end(reader: asyncio.StreamReader) -> bytes:
    """What the sidecar says until it closes the connection."""
    said = b""
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            while part := await reader.read(4_096):
                said += part
    return said


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"GET", HEAD, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /he"]
)
async def test_a_request_that_does_not_come_is_not_waited_for(bench: Bench, sent: bytes) -> None:
    async with served(bench) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        said = await end(reader)
        writer.close()
    assert (b"200 OK" in said) is (b"\r\n\r\n" in sent)


async def test_blank_lines_after_an_answer_keep_no_connection(bench: Bench) -> None:
    async with served(bench) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"\r\n")
        assert await end(reader) == b""
        writer.close()


async def test_a_slow_body_is_answered_and_its_connection_closed(bench: Bench) -> None:
    async with served(bench) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
        said = await end(reader)
        writer.close()
    assert b"504 Gateway Timeout" in said
    assert b"did not come within 0.05 s; 1 bytes of it did" in said


async def test_silent_connections_keep_nobody_out_for_long(bench: Bench) -> None:
    async with served(bench, connections=5, handshake=0.2) as server, client(server) as http:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        # While they last, who asks for work is told to come back, and probes are answered.
        refused = await http.post("/rerank", json=ASKED)
        assert refused.status_code == 503
        assert "More connections are open than the 5 that" in refused.json()["error"]
        assert refused.headers["connection"] == "close"
        assert (await http.get("/info")).json()["error"] == refused.json()["error"]
        assert (await http.get("/healthz")).status_code == 200
        metrics = (await http.get("/metrics")).text
        assert 'neuralrank_refused_requests_total{reason="connections"} 2.0' in metrics
        for method in ("/rerank", "other"):
            line = f'neuralrank_requests_total{{method="{method}",status="UNAVAILABLE"}} 1.0'
            assert line in metrics
        assert (await http.get("/readyz?x=1")).status_code == 200
        for reader, _ in silent:
            assert await end(reader) == b""
        assert (await http.post("/rerank", json=ASKED)).status_code == 200
        for _, writer in silent:
            writer.close()


async def test_as_many_connections_are_served_as_there_may_be(bench: Bench) -> None:
    async with served(bench, connections=2) as server, client(server) as one, client(server) as two:
        for http in (one, two, one):
            assert (await http.post("/rerank", json=ASKED)).status_code == 200


async def test_an_idle_connection_is_kept_between_requests(bench: Bench) -> None:
    async with served(bench) as server, client(server) as http:
        for _ in range(2):
            answer = await http.post("/rerank", json=ASKED)
            assert answer.status_code == 200
            # Longer than a head may take.
            await asyncio.sleep(3 * SHORT)
        (connection,) = http._transport._pool.connections  # type: ignore[attr-defined]
        assert "Request Count: 2" in repr(connection)


async def test_a_handshake_of_tls_is_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    files = Files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with served(bench, tls=context) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await end(reader) == b""
        writer.close()


def post(**body: Any) -> bytes:
    data = orjson.dumps(body)
    return HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data


async def asks_for_more_than_fits(server: HttpServer) -> socket.socket:
    """A connection that has asked for an answer that no buffer takes whole, and for another."""
    loop = asyncio.get_running_loop()
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await loop.sock_connect(made, ("127.0.0.1", server.port))
    texts = [f"red kettle {n} " + "x" * 100_000 for n in range(100)]
    for sent in (post(query="red kettle", texts=texts, return_text=True), post(**ASKED)):
        await loop.sock_sendall(made, sent)
    return made


async def test_who_does_not_read_an_answer_holds_no_place(bench: Bench) -> None:
    patient = {"handshake": 20.0, "body": 20.0}
    async with served(bench, max_in_flight=1, **patient) as server, client(server) as http:
        unread = await asks_for_more_than_fits(server)
        assert bench.judge is not None
        async with asyncio.timeout(20):
            while "blue phone" not in bench.judge.texts:  # the second, behind the first
                await asyncio.sleep(0.01)
        await asyncio.sleep(SHORT)
        assert (await http.post("/rerank", json=ASKED)).status_code == 200
        unread.close()


async def test_an_answer_that_is_not_taken_is_not_waited_for(bench: Bench) -> None:
    async with served(bench, handshake=20.0, body=20.0, answer=SHORT) as server:
        unread = await asks_for_more_than_fits(server)
        open_ones = server._server.server_state.connections
        async with asyncio.timeout(20):
            while not open_ones:
                await asyncio.sleep(0.01)
            while open_ones:
                await asyncio.sleep(0.01)
        unread.close()


def headers(count: int) -> bytes:
    """So many of 1,000 bytes each."""
    return b"".join(b"X-%06d: %b\r\n" % (number, b"a" * 988) for number in range(count))


PROBE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        [PROBE + headers(70) + b"\r\n"],
        [PROBE + b"X: ", *[b"a" * 1_000] * 500],
        [PROBE, *[headers(1)] * 500],
        [b"GET /?", *[b"a" * 1_000] * 500],
        [b"\r\n" * 40_000],
    ],
    ids=["whole", "one header", "many headers", "path", "blank lines"],
)
async def test_a_head_that_is_too_long_is_refused_and_not_kept(
    bench: Bench, sent: list[bytes]
) -> None:
    async with served(bench, handshake=20.0, body=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with suppress(ConnectionError):
            for part in sent:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        said = await end(reader)
        writer.close()
    # Who goes on sending may lose the answer.
    assert said.startswith(b"HTTP/1.1 431 ") or (len(sent) > 1 and not said)


async def test_a_head_of_less_than_that_is_read(bench: Bench) -> None:
    async with served(bench, handshake=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for part in (PROBE, headers(30), headers(30), b"\r\n"):
            writer.write(part)
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_headers_after_a_body_are_bounded_too(bench: Bench) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
    async with served(bench, handshake=20.0, body=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with suppress(ConnectionError):
            for part in (chunked, *[headers(10)] * 100):
                writer.write(part)
                await writer.drain()
        await end(reader)
        writer.close()


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_offer_of_another_protocol_is_passed_over(
    bench: Bench, size: int, chunked: bool
) -> None:
    body = orjson.dumps(ASKED)
    length = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    parts = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sent = HEAD + OFFER + (parts if chunked else length)
    # Twice, and something else: each ends where it says that it does.
    sent = sent * 2 + PROBE + OFFER + b"\r\n" + PROBE + b"Connection: close\r\n\r\n"
    async with served(bench, handshake=20.0, body=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
        said = await end(reader)
        writer.close()
    assert said.count(b"HTTP/1.1 200 OK") == said.count(b"HTTP/1.1 ") == 4
    assert said.count(b'[{"index":0,') == 2


async def test_a_body_is_no_request_whatever_its_head_offers(bench: Bench) -> None:
    inner = b"GET /info HTTP/1.1\r\nHost: a\r\n\r\n"
    async with served(bench, handshake=20.0, body=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + OFFER + b"Content-Length: %d\r\n\r\n" % len(inner))
        await writer.drain()
        writer.write(inner + PROBE + b"Connection: close\r\n\r\n")
        said = await end(reader)
        writer.close()
    assert re.findall(rb"HTTP/1\.1 (\d+) ", said) == [b"400", b"200"]


async def test_no_proxy_is_to_be_had(bench: Bench) -> None:
    async with served(bench, handshake=20.0, body=20.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + PROBE + b"\r\n")
        said = await end(reader)
        writer.close()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1


async def test_beyond_a_hard_bound_connections_are_closed_at_once(bench: Bench) -> None:
    most = most_open(1)
    async with served(bench, connections=1, handshake=20.0) as server, client(server) as http:
        kept = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(most)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await end(reader) == b""
        writer.close()
        kept.pop()[1].close()
        async with asyncio.timeout(20):
            while len(server._server.server_state.connections) >= most:
                await asyncio.sleep(0)
        assert (await http.get("/healthz")).status_code == 200
        for _, writer in kept:
            writer.close()


async def test_where_no_file_is_left_one_line_says_so_and_not_thousands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))

    def accept(_: socket.socket) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async with served(bench) as server:
        with monkeypatch.context() as patched, socket.socket() as waiting:
            patched.setattr(socket.socket, "accept", accept)
            waiting.connect(("127.0.0.1", server.port))
            async with asyncio.timeout(20):
                while not told:
                    await asyncio.sleep(0)
    assert len(told) == 1
