"""Clients of the session's stack."""

from collections.abc import Iterator

import grpc
import pytest
from opensearchpy import OpenSearch

from neuralrank.opensearch import connect
from neuralrank.settings import Settings


@pytest.fixture(scope="session")
def opensearch(stack: Settings) -> Iterator[OpenSearch]:
    """A client of the stack's OpenSearch."""
    client = connect(stack)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="session")
def channel(stack: Settings) -> Iterator[grpc.Channel]:
    """A gRPC channel to the stack's sidecar."""
    with grpc.insecure_channel(stack.sidecar, [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel
