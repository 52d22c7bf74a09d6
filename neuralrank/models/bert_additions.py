"""What parameter-efficient training adds to the layers of a BERT, as parts of its graph."""

import numpy as np

from neuralrank.models.onnx_graph import Graph, Weights

__all__ = ["adapted", "prefixed"]


def prefixed(
    graph: Graph, name: str, keys: str, values: str, bias: str, weights: Weights, attention: str
) -> tuple[str, str, str]:
    """Keys [b, h, size, n + l], values [b, h, n + l, size] and bias [b, 1, 1, n + l] with the n
    trained positions of a prefix before the text.

    Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (2021).
    """
    # For every text of the batch: a column of zeros carries the batch's size.
    nothing = graph.op(
        "Mul",
        f"{name}.nothing",
        graph.op("Slice", f"{name}.column", bias, *_first_column(graph)),
        graph.number("none", 0.0),
    )  # [b, 1, 1, 1]
    joined = []
    for part, axis, own in (("key", 3, keys), ("value", 2, values)):
        prefix = weights[f"{attention}.prefix.{part}"]  # [h, n, size]
        length = prefix.shape[1]
        constant = graph.constant(f"{attention}.prefix.{part}", prefix)
        if part == "key":
            constant = graph.op("Transpose", f"{name}.prefix.turned", constant, perm=[0, 2, 1])
        spread = graph.op("Add", f"{name}.prefix.{part}", constant, nothing)  # [b, h, .., ..]
        joined.append(graph.op("Concat", f"{name}.{part}.joined", spread, own, axis=axis))
    seen = graph.constant(f"prefix.seen{length}", np.zeros((1, 1, 1, length), np.float32))
    seen = graph.op("Add", f"{name}.prefix.seen", seen, nothing)
    return joined[0], joined[1], graph.op("Concat", f"{name}.bias", seen, bias, axis=3)


def _first_column(graph: Graph) -> tuple[str, str, str]:
    return (
        graph.constant("zero", np.array([0], np.int64)),
        graph.constant("one.step", np.array([1], np.int64)),
        graph.constant("column_axis", np.array([3], np.int64)),
    )


def adapted(graph: Graph, x: str, weights: Weights, key: str) -> str:
    """x, with what a trained bottleneck adds to it, if there is one; it stays exact.

    Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (2019).
    """
    if f"{key}.adapter.down.weight" not in weights:
        return x
    exact = Graph("fp32", graph.nodes, graph.initializers)
    down = exact.layer(f"{key}.adapter.down", x, weights, f"{key}.adapter.down")
    gelu = graph.op("Gelu", f"{key}.adapter.gelu", down)
    up = exact.layer(f"{key}.adapter.up", gelu, weights, f"{key}.adapter.up")
    return graph.op("Add", f"{key}.adapted", x, up)
