"""Marks the tokens that the other text of a pair has too, in the graph.

A small model then need not find them by attention. Boualili, Moreno and Boughanem, "MarkedBERT:
Integrating Traditional IR Cues in Pre-trained Language Models for Passage Retrieval" (2020), which
marks in the text.
"""

import numpy as np
from onnx import TensorProto

from neuralrank.errors import InvalidInput
from neuralrank.models.onnx_graph import Graph, Weights

__all__ = ["MATCHES", "matches"]

# [2, hidden]: row 1 is added to tokens that both texts have, row 0 to the others.
MATCHES = "embeddings.match_embeddings.weight"


def matches(graph: Graph, weights: Weights) -> str:
    """The row of the table for each token, [batch, length, hidden], from `input_ids` and
    `token_type_ids`.

    Raises:
        InvalidInput: the model has one token type, which tells no texts apart.
    """
    if weights["embeddings.token_type_embeddings.weight"].shape[0] < 2:
        raise InvalidInput(
            f"The checkpoint has {MATCHES}, which needs two token types to tell the texts of a "
            "pair apart; it has one. Train it with two, or leave the match table out."
        )
    same = _pairwise(graph, "same_token", "input_ids")
    alike = _pairwise(graph, "same_text", "token_type_ids")
    both = graph.op("And", "match.pairs", same, graph.op("Not", "other_text", alike))
    found = graph.op(
        "ReduceMax",
        "match.any",
        graph.op("Cast", "match.counts", both, to=TensorProto.FLOAT),
        graph.constant("last_axis", np.array([-1], np.int64)),
        keepdims=0,
    )
    rows = graph.op("Cast", "matched", found, to=TensorProto.INT64)
    return graph.op("Gather", "matches", graph.constant("match_table", weights[MATCHES]), rows)


def _pairwise(graph: Graph, name: str, values: str) -> str:
    """Whether two tokens have the same value, bool [batch, length, length]."""
    rows = graph.op("Unsqueeze", f"{name}.rows", values, graph.constant("rows", np.array([2])))
    columns = graph.constant("columns", np.array([1]))
    return graph.op("Equal", name, rows, graph.op("Unsqueeze", f"{name}.columns", values, columns))
