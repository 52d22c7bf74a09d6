"""Certificates and sidecars for the tests of what is secured; nothing of it is stored in git."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme

from neuralrank.settings import Settings
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings


class Files:
    """A certificate authority, and what it issued, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue(self.certificate, self.key, "127.0.0.1", "localhost")

    def issue(self, certificate: Path, key: Path, *names: str, **options: Any) -> None:
        made = self.authority.issue_cert(*names, **options)
        made.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))

    def client(self, name: str, **options: Any) -> tuple[Path, Path]:
        """Certificate and key of a client with a common name."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        self.issue(certificate, key, f"{name}@clients", common_name=name, **options)
        return certificate, key

    def settings(self, *, mutual: bool = False) -> dict[str, str]:
        found = {"tls_certificate": str(self.certificate), "tls_key": str(self.key)}
        return found | ({"tls_client_ca": str(self.ca)} if mutual else {})


@asynccontextmanager
async def secured(folder: Path, **settings: Any) -> AsyncIterator[Sidecar]:
    """A whole sidecar with an empty registry and no OpenSearch: it answers by retrieval alone."""
    registry = folder / "registry"
    registry.mkdir(exist_ok=True)
    made = Sidecar(
        SidecarSettings(
            **{
                "listen": "127.0.0.1:0",
                "drain_seconds": 0,
                "opensearch_timeout_ms": 100,
                "opensearch_read_ms": 200,
                **settings,
            }
        ),
        Settings(opensearch_url="http://127.0.0.1:1", registry=str(registry)),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def as_serving(*sidecars: Sidecar) -> None:
    """Has them say that they have models, which they don't."""
    for made in sidecars:
        await made.loaded()
        made._has_models = lambda: True  # type: ignore[method-assign]
        await made._report(serving=True)
