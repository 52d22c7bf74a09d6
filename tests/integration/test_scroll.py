"""What reads an index from end to end leaves it searchable (docs/decisions/023)."""

from collections.abc import Iterator

import pytest
from opensearchpy import OpenSearch

from opensearch_config import product_index

INDEX, COPY = "scrolled", "scrolled_copy"


@pytest.fixture
def scrolled(opensearch: OpenSearch) -> Iterator[str]:
    opensearch.indices.create(index=INDEX, body=product_index("encoder@000000000001", 8))
    rows: list[dict[str, object]] = []
    for number in range(120):
        rows += [{"index": {"_index": INDEX, "_id": str(number)}}]
        rows += [{"title": "a", "text_vector": [1.0, *[number / 120] * 7]}]
    opensearch.bulk(body=rows, params={"refresh": "true"})
    yield INDEX
    opensearch.indices.delete(index=f"{INDEX},{COPY}", params={"ignore_unavailable": "true"})


def test_copies_have_their_vectors_whatever_pipeline_the_index_has(
    opensearch: OpenSearch, scrolled: str
) -> None:
    usual = {"index.search.default_pipeline": "neural_rank"}
    opensearch.indices.put_settings(index=scrolled, body=usual)
    # One that would be ranked, were it a search of its own.
    query = {"match": {"title": "a"}}
    ranked = opensearch.search(index=scrolled, body={"query": query})["hits"]["hits"]
    assert all(hit["_source"] == {"title": "a"} for hit in ranked)
    copy = {"source": {"index": scrolled, "query": query}, "dest": {"index": COPY}}
    opensearch.reindex(body=copy, params={"refresh": "true"})
    opensearch.update_by_query(index=scrolled, body={"query": query}, params={"refresh": "true"})
    for index in (scrolled, COPY):
        body = {"query": {"exists": {"field": "text_vector"}}}
        assert opensearch.count(index=index, body=body)["count"] == 120


def test_a_product_index_is_searched_after_a_scroll_and_a_reindex(
    opensearch: OpenSearch, scrolled: str
) -> None:
    def found() -> int:
        hits = opensearch.search(index=scrolled, body={"size": 100})["hits"]["hits"]
        return len([hit for hit in hits if len(hit["_source"]["text_vector"]) == 8])

    page = opensearch.search(index=scrolled, body={"size": 50}, params={"scroll": "1m"})
    opensearch.clear_scroll(body={"scroll_id": [page["_scroll_id"]]})
    assert found() == 100
    copy = {"source": {"index": scrolled}, "dest": {"index": COPY}}
    opensearch.reindex(body=copy, params={"refresh": "true"})
    assert found() == 100
