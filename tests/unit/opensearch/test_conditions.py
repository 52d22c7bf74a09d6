"""Hard filters as clauses of a query; what these find is tests/integration/test_conditions.py."""

import json
from typing import Any

import pytest

from neuralrank.errors import NotFound
from neuralrank.opensearch.conditions import conditions, filtered
from opensearch_config import product_index

FILTERS: dict[str, Any] = {
    "exclude_purchased": True,
    "in_stock_only": True,
    "min_price": 0,
    "max_price": 20,
    "attributes": [{"name": "brand", "values": ["Nike"], "exclude": False}],
}


class Mapped:
    """Stands for the client of a cluster whose indexes have these mappings."""

    def __init__(self, *mappings: dict[str, Any]) -> None:
        self.indices = self
        self.mappings = mappings

    def get_mapping(self, index: str) -> dict[str, Any]:
        if not self.mappings:
            raise NotFound(f"no such index [{index}]")
        return {f"{index}-{n}": {"mappings": each} for n, each in enumerate(self.mappings)}


OURS = product_index()["mappings"]
OTHERS = {"properties": {"brand": {"type": "keyword"}, "price": {"type": "float"}}}


def split(filters: dict[str, Any], *mappings: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    return conditions(Mapped(*mappings), "shop", filters)  # type: ignore[arg-type]


def test_what_no_query_can_express_is_left_for_the_sidecar() -> None:
    clauses, left = split(FILTERS, OURS, OURS)
    assert left == {"exclude_purchased": True}
    assert len(clauses) == 4


@pytest.mark.parametrize("mappings", [(OTHERS,), (OURS, OTHERS), ({},), ()], ids=len)
def test_of_an_index_that_lacks_our_fields_all_filters_are_the_sidecars(mappings: Any) -> None:
    assert split(FILTERS, *mappings) == ([], FILTERS)


def test_without_filters_nothing_is_asked_of_the_cluster() -> None:
    assert split({}) == ([], {})


def test_a_value_too_long_for_an_expression_is_the_sidecars() -> None:
    long = {"name": "note", "values": ["x" * 500], "exclude": False}
    short = {"name": "note", "values": ["x"], "exclude": False}
    clauses, left = split({"attributes": [long, short]}, OURS)
    assert left == {"attributes": [long]}
    assert len(clauses) == 1


def test_signs_of_expressions_stand_for_themselves() -> None:
    rule = {"name": "w (cm)", "values": ["a+b"], "exclude": True}
    (clause,), _ = split({"attributes": [rule]}, OURS)
    assert r"attributes.w \\(cm\\)" in json.dumps(clause)
    assert r"\\+" in json.dumps(clause)


def test_a_query_keeps_its_scores_beside_conditions() -> None:
    query = {"match": {"title": "tea"}}
    clause = {"term": {"in_stock": True}}
    assert filtered(query, []) == query
    assert filtered(query, [clause]) == {"bool": {"must": [query], "filter": [clause]}}
