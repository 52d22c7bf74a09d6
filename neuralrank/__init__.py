"""neuralrank: neural re-ranking for OpenSearch, for each user.

This package holds what all stages share. The stages themselves are `indexer` (catalogue to index),
`sidecar` (the ranking service) and `opensearch_config` (mappings and pipelines as files).
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
