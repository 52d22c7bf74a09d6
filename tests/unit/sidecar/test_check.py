"""`neuralrank-sidecar-check`: asks a real sidecar, with the certificate that the sidecar has."""

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.check import check
from sidecar.server import Sidecar
from tests.unit.sidecar.parts import WordEncoder, serving
from tests.unit.sidecar.secured import Files, secured

PREFIX = "NEURALRANK_SIDECAR_"


def environment(made: Sidecar, **settings: Any) -> dict[str, str]:
    given = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    return given | {f"{PREFIX}HTTP_LISTEN": f"0.0.0.0:{made.http_port}"}


@pytest.mark.parametrize("security", ["none", "tls", "mtls"])
async def test_it_tells_alive_from_ready(tmp_path: Path, security: str) -> None:
    files = Files(tmp_path)
    # A name that is not the one it is asked by, and no address.
    files.issue(files.certificate, files.key, "sidecar.internal")
    settings = {} if security == "none" else files.settings(mutual=security == "mtls")
    async with secured(tmp_path, http_listen="127.0.0.1:0", **settings) as made:
        variables = environment(made, **settings)
        await made.loaded()
        assert await asyncio.to_thread(check, "live", variables) == ""
        # Its registry is empty.
        said = await asyncio.to_thread(check, "ready", variables)
        assert said == f"127.0.0.1:{made.http_port} is not ready: HTTP 503."
        made.models.serving = serving(WordEncoder(), None)
        assert await asyncio.to_thread(check, "ready", variables) == ""
    assert "does not answer" in await asyncio.to_thread(check, "live", variables)


async def test_another_server_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files, other = Files(tmp_path), Files(tmp_path / "other")
    async with secured(tmp_path, http_listen="127.0.0.1:0", **other.settings()) as made:
        variables = environment(made, **files.settings())
        assert "CERTIFICATE_VERIFY_FAILED" in await asyncio.to_thread(check, "ready", variables)


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
async def test_in_the_middle_of_a_change_of_certificates_it_is_alive(
    tmp_path: Path, mutual: bool
) -> None:
    (tmp_path / "next").mkdir()
    files, following = Files(tmp_path), Files(tmp_path / "next")
    settings = files.settings(mutual=mutual)
    async with secured(tmp_path, http_listen="127.0.0.1:0", **settings) as made:
        files.certificate.write_bytes(following.certificate.read_bytes())  # and not yet the key
        variables = environment(made, **settings)
        assert await asyncio.to_thread(check, "live", variables) == ""
        files.certificate.unlink()
        assert await asyncio.to_thread(check, "live", variables) == ""


async def test_a_refusal_of_who_shows_no_certificate_is_a_sign_of_life(tmp_path: Path) -> None:
    files = Files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        variables = {f"{PREFIX}HTTP_LISTEN": f"127.0.0.1:{port}", f"{PREFIX}TLS_CERTIFICATE": "x"}
        assert await asyncio.to_thread(check, "live", variables) == ""


@pytest.mark.parametrize("security", ["none", "tls"])
async def test_an_event_loop_that_hangs_is_not_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    monkeypatch.setattr("sidecar.check._SECONDS", 0.2)
    settings = Files(tmp_path).settings() if security == "tls" else {}
    async with secured(tmp_path, http_listen="127.0.0.1:0", **settings) as made:
        # Its port takes connections; nobody reads them, as this loop is the sidecar's.
        assert "timed out" in check("live", environment(made, **settings))


def test_of_several_processes_each_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def status(_host: str, port: int, *_: Any) -> int:
        asked.append(port)
        return 200 if port < 8_082 else 503

    monkeypatch.setattr("sidecar.check._status", status)
    variables = {f"{PREFIX}HTTP_LISTEN": "127.0.0.1:8080", f"{PREFIX}PROCESSES": "3"}
    assert check("ready", variables) == "127.0.0.1:8082 is not ready: HTTP 503."
    assert asked == [8_080, 8_081, 8_082]


def test_without_http_it_says_what_to_set() -> None:
    assert check("live", {}) == (
        "NEURALRANK_SIDECAR_HTTP_LISTEN is no host:port; the sidecar is asked over HTTP, so set it."
    )


@pytest.mark.parametrize(("arguments", "code"), [(["live"], 1), ([], 2), (["well"], 2)])
def test_the_command_says_no_by_its_exit_code(arguments: list[str], code: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "sidecar.check", *arguments],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == code
    assert run.stderr
