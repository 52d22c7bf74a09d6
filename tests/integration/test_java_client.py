"""`examples/java-client`, generated from the contract and built by Maven, against real sidecars."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from neuralrank.settings import Settings
from neuralrank.stack.toolchain import find_jdk, find_maven
from sidecar.server import Sidecar
from tests.conftest import CHECKOUT
from tests.unit.sidecar.secured import Files, secured

EXAMPLE = CHECKOUT / "examples/java-client"
SECRET = "shop-secret-0123456789"
PAIR = ("kettle=red electric kettle", "shoes=running shoes for men")


@pytest.fixture(scope="module")
def built() -> Path:
    done = subprocess.run(
        [find_maven(), "--quiet", "--batch-mode", "-f", EXAMPLE / "pom.xml", "package"],
        env=os.environ | {"JAVA_HOME": str(find_jdk().home)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return EXAMPLE / "target/java-client.jar"


async def java(
    jar: Path, address: str, *arguments: str, **environment: str
) -> tuple[int, list[str], str]:
    """Exit code, lines on standard output, and the last one on standard error: newer JDKs warn
    about libraries before it."""
    process = await asyncio.create_subprocess_exec(
        find_jdk().home / "bin/java", "-jar", jar, address, *arguments,
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 120)
    last = (error.decode().splitlines() or [""])[-1]
    return process.returncode or 0, out.decode().splitlines(), last


def at(*sidecars: Sidecar) -> str:
    return ",".join(f"127.0.0.1:{made.port}" for made in sidecars)


def served(made: Sidecar) -> float:
    labels = {"method": "Rank", "status": "OK"}
    return made.metrics.registry.get_sample_value("neuralrank_requests_total", labels) or 0.0


async def test_it_ranks_with_the_real_models(stack: Settings, built: Path) -> None:
    code, lines, error = await java(
        built, stack.sidecar, "30000", "1", "electric kettle", *reversed(PAIR)
    )
    assert code == 0, error
    assert [line.split("\t")[0] for line in lines] == ["kettle", "shoes"]
    best, worst = (float(line.split("\t")[1]) for line in lines)
    assert 0 <= worst < best <= 1


async def test_tls_certificate_token_and_several_sidecars(built: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    (tmp_path / "tokens").write_text(f"shop: {SECRET}\n")
    certificate, key = files.client("shop")
    pkcs8 = tmp_path / "shop.pkcs8.key"
    pkcs8.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    access = {
        "NEURALRANK_CLIENT_CA": str(files.ca),
        "NEURALRANK_CLIENT_CERTIFICATE": str(certificate),
        "NEURALRANK_CLIENT_KEY": str(pkcs8),
    }
    settings = {**files.settings(mutual=True), "tokens": str(tmp_path / "tokens")}
    async with secured(tmp_path, **settings) as one, secured(tmp_path, **settings) as two:
        token = {"NEURALRANK_CLIENT_TOKEN": SECRET}
        ask = ("30000", "200", "x", *PAIR)
        code, lines, error = await java(built, at(one, two), *ask, **access, **token)
        assert (code, len(lines)) == (0, 2), error
        assert served(one) + served(two) == 200
        assert min(served(one), served(two)) > 20
        code, _, error = await java(built, at(one), *ask, **access)
        assert (code, error.split(":")[0]) == (1, "UNAUTHENTICATED")
        # One is stopping: its calls go to the other.
        one._service.admission.close()
        before = served(two)
        code, _, error = await java(built, at(one, two), *ask, **access, **token)
        assert code == 0, error
        assert served(two) == before + 200


async def test_its_deadline_holds_without_a_sidecar(built: Path) -> None:
    code, lines, error = await java(built, "127.0.0.1:1", "300", "1", "x", *PAIR)
    assert (code, lines) == (1, [])
    assert error.split(":")[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
