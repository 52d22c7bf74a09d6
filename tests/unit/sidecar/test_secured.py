"""TLS, client certificates, tokens and limits of a whole sidecar, over real gRPC."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from neuralrank.errors import InvalidSettings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc
from sidecar.access.tls import Certificates
from sidecar.access.watch import FileWatch
from sidecar.server import Sidecar
from tests.unit.sidecar.parts import Clock
from tests.unit.sidecar.secured import Files, secured

# Each call connects anew: what is tested is who is let in.
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
REQUEST = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a"), pb.Candidate(id="b")])
SECRET = "shop-secret-0123456789"
BEARER = (("authorization", f"Bearer {SECRET}"),)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text(f"shop: {SECRET}\ncms: cms-secret-0123456789\n")
    return str(path)


def trusting(
    files: Files, client: tuple[Path, Path] | None = None, ca: bytes = b""
) -> grpc.ChannelCredentials:
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    return grpc.ssl_channel_credentials(ca or files.ca.read_bytes(), key, certificate)


def channel(
    sidecar: Sidecar, credentials: grpc.ChannelCredentials | None = None
) -> grpc.aio.Channel:
    address = f"127.0.0.1:{sidecar.port}"
    if credentials is None:
        return grpc.aio.insecure_channel(address, OPTIONS)
    return grpc.aio.secure_channel(address, credentials, OPTIONS)


async def rank(
    sidecar: Sidecar, credentials: grpc.ChannelCredentials | None = None, metadata: Any = ()
) -> str:
    """The status of one call."""
    async with channel(sidecar, credentials) as open_channel:
        try:
            await pb_grpc.RankingStub(open_channel).Rank(REQUEST, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


async def test_tls_serves_who_trusts_it_and_nobody_else(tmp_path: Path, files: Files) -> None:
    async with secured(tmp_path, **files.settings()) as made:
        assert await rank(made, trusting(files)) == "OK"
        # A client that trusts others, and one that does not speak TLS.
        stranger = trustme.CA().cert_pem.bytes()
        assert await rank(made, trusting(files, ca=stranger)) == "UNAVAILABLE"
        assert await rank(made) == "UNAVAILABLE"


async def test_only_clients_with_a_certificate_of_ours_are_let_in(
    tmp_path: Path, files: Files
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    (tmp_path / "other").mkdir()
    async with secured(tmp_path, **files.settings(mutual=True)) as made:
        assert await rank(made, trusting(files, files.client("shop"))) == "OK"
        assert await rank(made, trusting(files)) == "UNAVAILABLE"
        expired = files.client("late", not_after=past)
        assert await rank(made, trusting(files, expired)) == "UNAVAILABLE"
        unknown = Files(tmp_path / "other").client("shop")
        assert await rank(made, trusting(files, unknown)) == "UNAVAILABLE"


async def test_an_expired_certificate_of_the_sidecar_is_not_trusted(
    tmp_path: Path, files: Files
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    files.issue(files.certificate, files.key, "127.0.0.1", not_after=past)
    async with secured(tmp_path, **files.settings()) as made:
        assert await rank(made, trusting(files)) == "UNAVAILABLE"


async def test_a_new_certificate_serves_the_next_connection(tmp_path: Path, files: Files) -> None:
    (tmp_path / "next").mkdir()
    following = Files(tmp_path / "next")
    clock = Clock()
    async with secured(tmp_path, **files.settings()) as made:
        assert made._certificates is not None
        made._certificates._watch._clock = clock
        assert await rank(made, trusting(files)) == "OK"
        # In the middle of a change they don't belong together: the old ones serve on.
        files.key.write_bytes(following.key.read_bytes())
        clock.now += 1e6
        assert await rank(made, trusting(files)) == "OK"
        files.certificate.write_bytes(following.certificate.read_bytes())
        clock.now += 10
        assert await rank(made, trusting(following)) == "OK"
        assert await rank(made, trusting(files)) == "UNAVAILABLE"


async def test_a_new_certificate_serves_the_next_connection_of_http(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "next").mkdir()
    following = Files(tmp_path / "next")
    # Looked at with every handshake, and not once a second.
    monkeypatch.setattr("sidecar.access.tls.FileWatch", partial(FileWatch, every=0.0))

    async def served(made: Sidecar, trusted: Files) -> bool:
        context = ssl.create_default_context(cafile=str(trusted.ca))
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            try:
                answer = await client.get(f"https://127.0.0.1:{made.http_port}/healthz")
            except httpx.ConnectError:
                return False
        return answer.status_code == 200

    async with secured(tmp_path, **files.settings(), http_listen="127.0.0.1:0") as made:
        assert await served(made, files)
        # In the middle of a change they don't belong together: the old ones serve on.
        files.key.write_bytes(following.key.read_bytes())
        assert await served(made, files)
        files.certificate.write_bytes(following.certificate.read_bytes())
        assert await served(made, following)
        assert not await served(made, files)


async def test_certificates_that_could_not_be_read_for_a_moment_are_read_again(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    following, clock = Files(tmp_path / "next"), Clock()
    held = Certificates(files.certificate, files.key, None, clock)
    for name in ("certificate", "key"):
        getattr(files, name).write_bytes(getattr(following, name).read_bytes())

    def denied() -> None:
        raise InvalidSettings("Permission denied")

    for read, found in ((denied, None), (lambda: "read", "read"), (lambda: "read", None)):
        monkeypatch.setattr(held, "_read", read)
        clock.now += 1.5
        assert held._fetch() == found


@pytest.mark.parametrize(("seconds", "ends"), [(1e-6, True), (600.0, False), (0.0, False)])
async def test_an_old_connection_of_http_ends_with_its_answer(
    tmp_path: Path, seconds: float, ends: bool
) -> None:
    async with (
        secured(tmp_path, http_listen="127.0.0.1:0", max_connection_age_seconds=seconds) as made,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{made.http_port}/healthz")
    assert answer.status_code == 200
    assert (answer.headers.get("connection") == "close") is ends


@pytest.mark.parametrize("broken", ["certificate", "key", "ca"])
async def test_files_that_can_not_be_used_stop_the_start(
    tmp_path: Path, files: Files, broken: str
) -> None:
    getattr(files, broken).write_text("not a certificate")
    with pytest.raises(InvalidSettings, match="NEURALRANK_SIDECAR_TLS_CERTIFICATE"):
        async with secured(tmp_path, **files.settings(mutual=True)):
            pass


async def test_a_token_is_needed_but_not_for_health_and_reflection(
    tmp_path: Path, tokens: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with secured(tmp_path, tokens=tokens) as made:
        assert await rank(made, metadata=BEARER) == "OK"
        assert await rank(made) == "UNAUTHENTICATED"
        wrong = (("authorization", "Bearer shop-secret-0123456788"),)
        assert await rank(made, metadata=wrong) == "UNAUTHENTICATED"
        async with channel(made) as open_channel:
            stub = pb_grpc.RankingStub(open_channel)
            for call in (
                stub.Encode(pb.EncodeRequest()),
                stub.ModelStatus(pb.ModelStatusRequest()),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "Bearer <token>" in caught.value.details()
            health = health_pb2_grpc.HealthStub(open_channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        refused = made.metrics.registry.get_sample_value(
            "neuralrank_refused_requests_total", {"reason": "unauthenticated"}
        )
        assert refused == 4
    lines = [vars(entry) for entry in caplog.records if entry.message == "token refused"]
    assert lines[0]["reason"] == "A token is needed, and none was sent"
    assert lines[0]["peer"] == "127.0.0.1"
    # Whatever the machine's pace: none is written twice, and what was sent never.
    assert len(lines) + sum(line["refused_before_unsaid"] for line in lines) <= 4
    assert all("0123456788" not in repr(line) for line in lines)


async def test_a_message_is_not_read_before_its_caller_is_known(
    tmp_path: Path, tokens: str
) -> None:
    async with secured(tmp_path, tokens=tokens) as made, channel(made) as open_channel:
        call = open_channel.unary_unary("/neuralrank.v1.Ranking/Rank")
        found = []
        for metadata in ((), BEARER):
            with pytest.raises(grpc.RpcError) as caught:
                await call(b"no message", timeout=20, metadata=metadata)
            found.append(caught.value.code().name)
        assert found == ["UNAUTHENTICATED", "INVALID_ARGUMENT"]
        registry = made.metrics.registry
        for status in found:
            labels = {"method": "Rank", "status": status}
            assert registry.get_sample_value("neuralrank_requests_total", labels) == 1
        refused = "neuralrank_refused_requests_total"
        assert registry.get_sample_value(refused, {"reason": "unauthenticated"}) == 1


async def test_a_caller_over_its_rate_is_told_when_to_come_back_and_others_are_served(
    tmp_path: Path, tokens: str
) -> None:
    async with (
        secured(tmp_path, tokens=tokens, caller_rate=0.1, caller_burst=2) as made,
        channel(made) as open_channel,
    ):
        stub = pb_grpc.RankingStub(open_channel)
        for _ in range(2):
            await stub.Rank(REQUEST, timeout=20, metadata=BEARER)
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Rank(REQUEST, timeout=20, metadata=BEARER)
        error = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "'shop' asks too often; allowed are 0.1 requests a second" in error.details()
        pushback = dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
        assert 0 < int(pushback) <= 10_000
        other = (("authorization", "Bearer cms-secret-0123456789"),)
        await stub.Rank(REQUEST, timeout=20, metadata=other)


async def test_a_client_is_known_by_its_certificate_and_else_by_its_address(
    tmp_path: Path, files: Files
) -> None:
    limit = {"caller_rate": 0.1, "caller_burst": 1}
    async with secured(tmp_path, **files.settings(mutual=True), **limit) as made:
        shop, cms = (trusting(files, files.client(name)) for name in ("shop", "cms"))
        assert [await rank(made, one) for one in (shop, shop, cms)] == [
            "OK",
            "RESOURCE_EXHAUSTED",
            "OK",
        ]
    async with secured(tmp_path, **limit) as made:
        # Another connection, and so another port, of the same address.
        assert [await rank(made), await rank(made)] == ["OK", "RESOURCE_EXHAUSTED"]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
async def test_an_address_is_one_caller_over_grpc_and_http(tmp_path: Path) -> None:
    limit = {"caller_rate": 0.1, "caller_burst": 1}
    # For IPv4 and IPv6: there HTTP has ::ffff:127.0.0.1.
    both = {"listen": "[::]:0", "http_listen": "[::]:0", "insecure": True}
    async with secured(tmp_path, **limit, **both) as made:
        assert await rank(made) == "OK"
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{made.http_port}/rerank"
            answer = await client.post(url, json={"query": "a", "texts": ["b"]})
    assert answer.status_code == 429
    assert "'127.0.0.1' asks too often" in answer.text


async def test_over_http_too_a_client_is_known_by_its_certificate(
    tmp_path: Path, files: Files
) -> None:
    settings = files.settings(mutual=True) | {"http_listen": "127.0.0.1:0"}
    async with secured(tmp_path, **settings, caller_rate=0.1, caller_burst=1) as made:
        url = f"https://127.0.0.1:{made.http_port}/rerank"
        found = []
        for name in ("shop", "shop", "cms"):
            context = ssl.create_default_context(cafile=str(files.ca))
            context.load_cert_chain(*files.client(name))
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                answer = await client.post(url, json={"query": "a", "texts": ["b"]})
            found.append((answer.status_code, "'shop' asks too often" in answer.text))
        context = ssl.create_default_context(cafile=str(files.ca))
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):  # no probe either: TLS comes first
                await client.get(f"https://127.0.0.1:{made.http_port}/healthz")
    # 503: it is let in, and there are no models.
    assert found == [(503, False), (429, True), (503, False)]


async def test_a_flood_of_connections_is_held_off_and_those_that_are_in_are_served(
    tmp_path: Path,
) -> None:
    async with secured(tmp_path, max_connections=50) as made, channel(made) as first:
        await pb_grpc.RankingStub(first).Rank(REQUEST, timeout=20)
        flood = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", made.port) for _ in range(200))
        )
        try:
            for _ in range(5):
                await pb_grpc.RankingStub(first).Rank(REQUEST, timeout=20)
            assert await rank(made) == "UNAVAILABLE"
        finally:
            for _, writer in flood:
                writer.close()
        async with asyncio.timeout(30):
            while await rank(made) != "OK":
                pass


async def test_reflection_can_be_turned_off(tmp_path: Path) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with secured(tmp_path, reflection=False) as made, channel(made) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            async for _ in stub.ServerReflectionInfo(iter([asked])):
                pass
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
