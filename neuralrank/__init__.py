"""neuralrank: neural re-ranking for OpenSearch, for each user.

This package holds what all stages share. The stages themselves are `indexer` (catalogue to index),
`sidecar` (the ranking service), `opensearch_config` (mappings and pipelines as files) and
`trainer`.

Models: `models` makes `bundles`, `backends` run their graphs, `encoders` and `personal` turn texts,
photos and users into vectors and scores, `text` is what they read. Data: `catalogue`, `opensearch`,
`ubi` (what users did). Quality: `judging`, `evaluation`, `experiments`, `standing` (why a product
stands where it stands), `report`. Around them: `cli` (the command), `stack` (all of it on one
machine), `client` and `v1` (gRPC), `files`.

For programs that call the sidecar: `Client`, `AsyncClient` and `Access`, with the messages of
`neuralrank.v1.ranking_pb2` and the errors of `neuralrank.errors`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralrank.client import AsyncClient, Client
    from neuralrank.client.channel import Access

__version__ = "0.1.0"

__all__ = ["Access", "AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """The clients, loaded at first use: most of what imports this package needs no gRPC."""
    if name == "Access":
        from neuralrank.client.channel import Access

        return Access
    if name in ("AsyncClient", "Client"):
        from neuralrank import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
