from contextlib import closing
from typing import Any

import pytest

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.opensearch.connection import connect
from opensearch_config import product_index, require_engine
from tests.unit.answering import answering


def nodes(*plugins: str) -> dict[str, Any]:
    return {"nodes": {"n1": {"name": "node-1", "plugins": [{"name": name} for name in plugins]}}}


def mappings(engine: str | None) -> dict[str, Any]:
    found: dict[str, Any] = product_index("e5@0123", 128)["mappings"]
    method = found["properties"]["text_vector"]["method"]
    method.pop("engine")
    if engine:
        method["engine"] = engine
    return found


def check(engine: str | None, *answers: Any) -> None:
    script = [(200, answer) for answer in answers]
    with answering(*script) as server, closing(connect(server.settings)) as client:
        require_engine(client, mappings(engine))


def build(kind: str) -> dict[str, Any]:
    return {"version": {"number": "3.5.0", "build_type": kind}}


def loaded(yes: bool) -> dict[str, Any]:
    return {"nodes": {"n1": {"faiss_initialized": yes}}}


def test_lucene_needs_only_the_knn_plugin() -> None:
    check("lucene", nodes("opensearch-knn"))


def test_without_the_knn_plugin_the_node_is_named() -> None:
    with pytest.raises(Unsupported, match=r"no plugin opensearch-knn on node-1.*--no-vectors"):
        check("lucene", nodes("neural-rank"))


@pytest.mark.parametrize("engine", ["faiss", None])
def test_faiss_is_refused_where_it_would_end_the_node(engine: str | None) -> None:
    with pytest.raises(Unsupported, match=r"no native library.*Use engine 'lucene'"):
        check(engine, nodes("opensearch-knn"), build("zip"), loaded(False))


def test_faiss_is_let_through_where_it_is_there() -> None:
    check("faiss", nodes("opensearch-knn"), build("docker"))
    check("faiss", nodes("opensearch-knn"), build("zip"), loaded(True))


def test_an_unknown_engine() -> None:
    with pytest.raises(InvalidInput, match=r"'nmslib'; allowed are lucene and faiss"):
        check("nmslib", nodes("opensearch-knn"))


def test_an_index_without_vectors_asks_nothing() -> None:
    with answering((500, "")) as server, closing(connect(server.settings)) as client:
        require_engine(client, product_index()["mappings"])
        assert server.asked == []
