"""Clients of the session's stack."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from opensearchpy import OpenSearch

from neuralrank.bundles.registry import Registry
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.writing import bulk_write
from neuralrank.settings import Settings
from opensearch_config import apply_ubi


@pytest.fixture(scope="session")
def channel(stack: Settings) -> Iterator[grpc.Channel]:
    """A gRPC channel to the stack's sidecar."""
    with grpc.insecure_channel(stack.sidecar, [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


@pytest.fixture
def client(stack: Settings) -> Iterator[OpenSearch]:
    with closing(connect(stack)) as opened:
        yield opened


@pytest.fixture
def logging_client(stack: Settings) -> Iterator[OpenSearch]:
    """An OpenSearch with UBI; what `log` writes to it is gone afterwards."""
    with closing(connect(stack, timeout=120.0)) as opened:
        apply_ubi(opened)
        yield opened
        opened.delete_by_query(
            index="ubi_events,ubi_queries",
            body={"query": {"prefix": {"client_id": "logged-"}}},
            params={"refresh": "true"},
        )


@pytest.fixture
def registry(stack: Settings, tmp_path: Path) -> Registry:
    """With the stack's encoder, and nothing else."""
    found = Registry(str(tmp_path / "models"))
    every, _ = Registry(stack.registry_path).verified()
    found.publish(next(one for one in every if one.manifest.kind == "encoder"))
    return found


def log(client: OpenSearch, documents: Sequence[tuple[str, dict[str, Any]]], prefix: str) -> None:
    """Writes UBI documents, each with its index.

    Args:
        documents: their client_id begins with `logged-`.
        prefix: of their ids.
    """
    for index in ("ubi_queries", "ubi_events"):
        rows = [(f"{prefix}-{n}", row) for n, (to, row) in enumerate(documents) if to == index]
        assert not list(bulk_write(client, index, rows, refresh=True))
