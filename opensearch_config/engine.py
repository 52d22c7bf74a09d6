"""What the cluster must have for what the files ask for."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, Unsupported

__all__ = ["require_engine", "require_plugin"]

KNN_PLUGIN: Final = "opensearch-knn"
RANK_PLUGIN: Final = "neural-rank"
_ENGINES: Final = ("lucene", "faiss")
# Distributions whose k-NN plugin comes with its native library. The plugin's zip of Maven Central,
# which a "zip" build takes, has none.
_WITH_NATIVE_LIBRARY: Final = ("tar", "docker", "rpm", "deb")


def require_plugin(client: OpenSearch, name: str, advice: str) -> None:
    """
    Raises:
        Unsupported: a node lacks the plugin; the message names it and gives the advice.
    """
    nodes = client.nodes.info(metric="plugins")["nodes"]
    without = sorted(
        str(node["name"])
        for node in nodes.values()
        if name not in {plugin["name"] for plugin in node["plugins"]}
    )
    if without:
        raise Unsupported(
            f"OpenSearch has no plugin {name} on {', '.join(without)}. {advice} Every node needs "
            "it and a restart after the installation."
        )


def require_engine(client: OpenSearch, mappings: Mapping[str, Any]) -> None:
    """Checks that vector fields can be made, before anything is created.

    An index with engine `faiss` on a node without the native library ends that node's process, so
    `faiss` is let through only where the node has loaded the library or comes from a distribution
    that has it.

    Raises:
        InvalidInput: an unknown engine.
        Unsupported: the k-NN plugin or faiss's native library is missing.
    """
    fields = dict(_vector_fields(mappings))
    if not fields:
        return
    require_plugin(
        client,
        KNN_PLUGIN,
        "Install the opensearch-knn plugin of the node's own version with `bin/opensearch-plugin "
        "install`, or index text only with --no-vectors.",
    )
    for name, field in fields.items():
        engine = field.get("method", {}).get("engine", "faiss")
        if engine not in _ENGINES:
            raise InvalidInput(
                f"{name}.method.engine is {engine!r}; allowed are {' and '.join(_ENGINES)}. "
                "Correct mappings/product.json."
            )
        if engine == "faiss" and not _has_faiss(client):
            raise Unsupported(
                f"{name}.method.engine is 'faiss' (k-NN's default where none is named), but this "
                "OpenSearch has no native library for it, and such an index would end its process. "
                "Use engine 'lucene' in mappings/product.json, or a distribution that comes with "
                "the library."
            )


def _has_faiss(client: OpenSearch) -> bool:
    if client.info()["version"].get("build_type") in _WITH_NATIVE_LIBRARY:
        return True
    stats = client.transport.perform_request("GET", "/_plugins/_knn/stats/faiss_initialized")
    return all(node.get("faiss_initialized") for node in stats["nodes"].values())


def _vector_fields(mappings: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in mappings.get("properties", {}).items():
        if field.get("type") == "knn_vector":
            yield name, field
