"""For programs that call the sidecar over gRPC: clients, and the channel that they call through."""

from neuralrank.client.clients import AsyncClient, Client, Interest

__all__ = ["AsyncClient", "Client", "Interest"]
