"""Clients of the session's stack."""

from collections.abc import Iterator

import grpc
import pytest

from neuralrank.settings import Settings


@pytest.fixture(scope="session")
def channel(stack: Settings) -> Iterator[grpc.Channel]:
    """A gRPC channel to the stack's sidecar."""
    with grpc.insecure_channel(stack.sidecar, [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel
