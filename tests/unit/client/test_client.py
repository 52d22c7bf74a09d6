"""The client against whole sidecars: TLS, tokens, retries, several sidecars."""

import asyncio
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.client import AsyncClient, Client, channel
from neuralrank.client.channel import KEEPALIVE_MS, Access, Route
from neuralrank.errors import (
    InvalidInput,
    InvalidSettings,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from neuralrank.settings import Settings
from neuralrank.stack.probe import sidecar_status
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.rpc.transport import PERMITTED_PING_MS
from sidecar.server import Sidecar
from tests.unit.sidecar.secured import Files, as_serving, secured

REQUEST = pb.RankRequest(query="x", candidates=[pb.Candidate(id="a"), pb.Candidate(id="b")])
SECRET = "shop-secret-0123456789"


@pytest.mark.parametrize("name", ["queries", "passages", "items", "users", "images", "photos_of"])
async def test_one_text_is_not_taken_for_a_list_of_characters(name: str) -> None:
    one: Any = b"JFIF" if name == "images" else "电脑"
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidInput, match=f"^{name} is one "):
        client.encode(**{name: one})
    async with AsyncClient("127.0.0.1:1") as other:
        with pytest.raises(InvalidInput, match=rf"allowed is a list: {name}=\[…\]"):
            await other.encode(**{name: one})


def test_half_a_surrogate_pair_is_said_and_not_sent() -> None:
    with Client("127.0.0.1:1") as client:
        with pytest.raises(InvalidInput, match="half a surrogate pair at character 1"):
            client.encode(queries=["a\udcff"])
        with pytest.raises(InvalidInput, match="half a surrogate pair"):
            client.interests("\ud83d", index="shop")


@pytest.mark.parametrize("address", ["10.0.0.7:50051,", " 10.0.0.7:50051", "10.0.0.7:50051 , "])
def test_one_address_is_read_as_those_of_a_list_are(address: str) -> None:
    assert Route.to(address, Access()).target == "10.0.0.7:50051"


@pytest.mark.parametrize("most", [0, -1, 9, 10**10])
def test_how_many_interests_there_may_be_is_said_before_anything_is_sent(most: int) -> None:
    with Client("127.0.0.1:1") as client:
        with pytest.raises(InvalidInput, match=f"most is {most}; allowed are 1 to 8"):
            client.interests("A", index="shop", most=most)
        with pytest.raises(InvalidInput, match="allowed are 1 to 1,000"):
            client.collaborative("A", index="shop", most=200 * most)


async def ask(address: str, access: Access | None = None, timeout: float = 20.0) -> list[str]:
    def call() -> list[str]:
        with Client(address, timeout, access) as client:
            return [hit.id for hit in client.rank(REQUEST).results]

    return await asyncio.to_thread(call)


def at(*sidecars: Sidecar) -> str:
    return ",".join(f"127.0.0.1:{made.port}" for made in sidecars)


def count(made: Sidecar, name: str, **labels: str) -> float:
    return made.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_sidecar_with_everything_is_used_by_who_has_everything(tmp_path: Path) -> None:
    files = Files(tmp_path)
    (tmp_path / "tokens").write_text(f"shop: {SECRET}\n")
    certificate, key = map(str, files.client("shop"))
    full = Access(str(files.ca), certificate, key, SECRET)
    mutual = files.settings(mutual=True)
    async with secured(tmp_path, **mutual, tokens=str(tmp_path / "tokens")) as made:
        assert await ask(at(made), full) == ["a", "b"]
        with pytest.raises(Unauthenticated, match="none was sent"):
            await ask(at(made), Access(str(files.ca), certificate, key))
        with pytest.raises(Unavailable, match="called with TLS: see that it has"):
            await ask(at(made), Access(str(files.ca), token=SECRET), timeout=2)
        with pytest.raises(Unavailable, match="If it has TLS, name its authority"):
            await ask(at(made), Access(token=SECRET), timeout=2)


async def test_what_the_sidecar_says_is_told_from_a_connection_that_there_is_not(
    tmp_path: Path,
) -> None:
    async with secured(tmp_path) as made:

        async def failing(*_: object) -> None:
            raise Unavailable("The events of ubi_events can't be read: all shards failed.")

        made._service._ranker.rank = failing  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable, match=r"^The events of ubi_events can't be read"):
            await ask(at(made))
        address = at(made)
    with pytest.raises(Unavailable, match="can't be reached"):
        await ask(address, timeout=2)


async def test_an_infinite_timeout_is_none(tmp_path: Path) -> None:
    async with secured(tmp_path) as made:
        assert await ask(at(made), timeout=math.inf) == ["a", "b"]


async def test_settings_of_the_environment_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    (tmp_path / "tokens").write_text(f"shop: {SECRET}\n")
    monkeypatch.setenv("NEURALRANK_CLIENT_CA", str(files.ca))
    monkeypatch.setenv("NEURALRANK_CLIENT_TOKEN", SECRET)
    async with secured(tmp_path, **files.settings(), tokens=str(tmp_path / "tokens")) as made:
        settings = Settings(sidecar=at(made))

        def call() -> int:
            with Client.of(settings) as client:
                return len(client.rank(REQUEST).results)

        assert await asyncio.to_thread(call) == 2
        # Its registry is empty: it is reached, and not serving.
        assert await asyncio.to_thread(sidecar_status, at(made)) == "not_serving"
        monkeypatch.delenv("NEURALRANK_CLIENT_CA")
        assert await asyncio.to_thread(sidecar_status, at(made)) == "down"


@pytest.mark.parametrize("token", ["two words", "tökén", "a\x00b", "line\n"])
def test_a_token_that_no_header_carries_is_said_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidSettings, match="NEURALRANK_CLIENT_TOKEN") as caught:
        Access(token=token)
    assert token not in str(caught.value)


def test_a_token_from_a_file_may_end_its_line() -> None:
    assert Access.of(Settings(client_token=f"{SECRET}\n")).token == SECRET


async def test_models_status_asks_a_secured_sidecar_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    (tmp_path / "tokens").write_text(f"shop: {SECRET}\n")
    monkeypatch.setenv("NEURALRANK_CLIENT_CA", str(files.ca))
    monkeypatch.setenv("NEURALRANK_CLIENT_TOKEN", SECRET)
    async with secured(tmp_path, **files.settings(), tokens=str(tmp_path / "tokens")) as made:
        asked = ["models", "status", "--sidecar", at(made), "--json"]
        done = await asyncio.to_thread(CliRunner().invoke, app, asked)
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout) == []


def served(made: Sidecar) -> float:
    return count(made, "neuralrank_requests_total", method="Rank", status="OK")


def ask_until_all_are_connected(client: Client, *sidecars: Sidecar) -> None:
    for _ in range(1_000):
        client.rank(REQUEST)
        if all(served(made) for made in sidecars):
            return
    pytest.fail(f"after 1,000 calls they served {[served(made) for made in sidecars]}")


async def test_calls_are_spread_over_several_sidecars(tmp_path: Path) -> None:
    async with secured(tmp_path) as one, secured(tmp_path) as two:
        await as_serving(one, two)

        def call() -> None:
            with Client(at(one, two), 20) as client:
                ask_until_all_are_connected(client, one, two)
                before = served(one), served(two)
                for _ in range(20):
                    client.rank(REQUEST)
                assert (served(one), served(two)) == (before[0] + 10, before[1] + 10)

        await asyncio.to_thread(call)


async def test_several_with_tls_share_the_first_ones_name(tmp_path: Path) -> None:
    files = Files(tmp_path)
    async with (
        secured(tmp_path, **files.settings()) as one,
        secured(tmp_path, **files.settings()) as two,
    ):
        await as_serving(one, two)
        assert await ask(at(one, two), Access(str(files.ca))) == ["a", "b"]


async def test_of_several_one_that_does_not_serve_yet_is_not_asked(tmp_path: Path) -> None:
    async with secured(tmp_path) as one, secured(tmp_path) as two:
        with pytest.raises(Unavailable, match=r"None of the sidecars at .* serves"):
            await ask(at(one, two), timeout=2)
        assert await asyncio.to_thread(sidecar_status, at(one, two)) == "not_serving"
        await as_serving(two)
        async with asyncio.timeout(20):  # until whoever watches their health has heard of it
            while await asyncio.to_thread(sidecar_status, at(one, two)) != "serving":
                await asyncio.sleep(0.01)

        def call() -> None:
            with Client(at(one, two), 20) as client:
                for _ in range(10):
                    client.rank(REQUEST)

        await asyncio.to_thread(call)
        assert (served(one), served(two)) == (0, 10)
        # One alone is asked: it ranks without models too.
        assert await ask(at(one)) == ["a", "b"]


async def test_one_that_is_stopping_costs_no_call(tmp_path: Path) -> None:
    async with secured(tmp_path) as one, secured(tmp_path) as two:
        await as_serving(one, two)

        def call() -> None:
            with Client(at(one, two), 20) as client:
                ask_until_all_are_connected(client, one, two)
                one._service.admission.close()
                before = served(two)
                for _ in range(20):
                    client.rank(REQUEST)
                assert served(two) == before + 20

        await asyncio.to_thread(call)
        assert count(one, "neuralrank_refused_requests_total", reason="stopping") > 0


async def test_only_what_was_unavailable_is_tried_again_and_only_within_the_deadline(
    tmp_path: Path,
) -> None:
    async with secured(tmp_path) as made:
        made._service.admission.close()
        with pytest.raises(Unavailable, match="This sidecar is stopping"):
            await ask(at(made))
        assert count(made, "neuralrank_refused_requests_total", reason="stopping") == 4
    async with secured(tmp_path, caller_rate=0.01, caller_burst=1) as made:
        await ask(at(made))
        with pytest.raises(Overloaded, match="asks too often"):
            await ask(at(made))
        assert count(made, "neuralrank_refused_requests_total", reason="caller_limit") == 1
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="can't be reached"):
        await ask("127.0.0.1:1", timeout=0.5)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Access(certificate="a"), "give both or neither"),
        (lambda: Access(certificate="a", key="b"), "NEURALRANK_CLIENT_CA"),
        (lambda: Route.to("x:1", Access(ca="/nowhere/ca.pem")), "can't be read"),
        (lambda: Route.to("one:1,two:2", Access()), "must be IP addresses"),
        (lambda: Route.to("", Access()), "address is ''. Give host:port"),
        (lambda: Route.to(" , ", Access()), "Give host:port"),
        (lambda: Route.to("127.0.0.1:1,[::1]:2", Access()), "those of one kind"),
    ],
)
def test_what_can_not_be_used_is_said(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        make()


def test_our_client_pings_no_more_often_than_the_sidecar_permits() -> None:
    assert KEEPALIVE_MS >= 2 * PERMITTED_PING_MS


def test_the_plugin_pings_no_more_often_than_the_sidecar_permits() -> None:
    (java,) = (Path(__file__).parents[3] / "plugin/src/main/java").rglob("Channels.java")
    (seconds,) = re.findall(r"keepAliveTime\((\d+), TimeUnit.SECONDS", java.read_text())
    assert int(seconds) * 1_000 >= 2 * PERMITTED_PING_MS


def test_the_service_config_names_the_service_of_the_contract() -> None:
    config = channel._CALLS_OF_SEVERAL
    name = pb.DESCRIPTOR.services_by_name["Ranking"].full_name
    assert config["methodConfig"][0]["name"] == [{"service": name}]
    assert config["healthCheckConfig"] == {"serviceName": name}
