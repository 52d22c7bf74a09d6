"""OpenSearch's side as plain files that a search engineer edits, and the code that applies them."""

from opensearch_config.changes import Change, apply, apply_ubi, create, diff
from opensearch_config.engine import require_engine, require_plugin
from opensearch_config.export import export
from opensearch_config.files import FOLDER, lexical_query, pipelines, product_index, ubi_indexes
from opensearch_config.live import with_encoder
from opensearch_config.renewal import Renewed, renew

__all__ = [
    "FOLDER",
    "Change",
    "Renewed",
    "apply",
    "apply_ubi",
    "create",
    "diff",
    "export",
    "lexical_query",
    "pipelines",
    "product_index",
    "renew",
    "require_engine",
    "require_plugin",
    "ubi_indexes",
    "with_encoder",
]
