"""Writes the ONNX graph of a BERT model from its weights, without torch.

The graph is plain ONNX (one opset, no custom domain), so that every backend can run it:
`input_ids`, `attention_mask` and, for a cross-encoder whose segments have types, `token_type_ids`
[batch, length] int64 in; `sentence_embedding` [batch, hidden] (encoder), `logits` [batch, 1]
(cross-encoder) or `token_embeddings` [batch, length, width] (late interaction) float32 out.

Linear layers come in two precisions:

- `fp32`.
- `int8`: weights per output channel; activations quantised **per token**, not per tensor. ONNX
  Runtime's own dynamic quantisation takes one scale from the whole batch, so that a pair's score
  depends on who shares its batch (onnxruntime issue 10111: up to 1.1 logits here). With one scale
  a token, a score depends on nothing but its own pair.

Where only the first token is read in the end (`cls`, `score`), the last layer computes only that.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from neuralrank.errors import InvalidInput
from neuralrank.models.bert_additions import adapted, prefixed
from neuralrank.models.bert_matches import MATCHES, matches
from neuralrank.models.onnx_graph import Graph, Precision, Weights
from neuralrank.onnx_file import fits_one_file

__all__ = ["BertConfig", "Head", "Precision", "Weights", "write_bert"]

Head = Literal["mean", "cls", "score", "tokens"]
Inputs = list[str]

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9


@dataclass(frozen=True)
class BertConfig:
    """The sizes that the weights alone do not tell."""

    layers: int
    # Of a layer that nothing was pruned from; a pruned one has as many as its weights hold.
    heads: int
    epsilon: float = 1e-12
    # Position of the first token: 0 for BERT, padding index + 1 = 2 for RoBERTa and XLM-R.
    first_position: int = 0


def write_bert(
    weights: Weights, config: BertConfig, head: Head, precision: Precision
) -> onnx.ModelProto:
    """The ONNX model of a BERT with Hugging Face weight names (without the prefix `bert.`).

    Args:
        weights: float32 arrays by name: `embeddings.word_embeddings.weight` [vocabulary, hidden],
            `encoder.layer.0.attention.self.query.weight` [hidden, hidden] and so on; for the head
            `score` also `pooler.dense.*` and `classifier.*` [1, hidden]. What parameter-efficient
            training adds is taken where it is there: `….attention.self.prefix.key` and `.value`
            [heads, positions, hidden / heads], and `….dense.adapter.down.*` and `.up.*` of a
            layer's two outputs. With `embeddings.match_embeddings.weight`, tokens that both
            texts of a pair have are marked (`neuralrank.models.bert_matches`).
        head: `mean` or `cls` pooling, L2-normalised, for an encoder; `score` for a cross-encoder;
            `tokens` for a vector of length 1 of each token, by `projection.*` [width, hidden].

    Raises:
        InvalidInput: a weight is missing or has another shape than its neighbours.
    """
    try:
        return _write_bert(weights, config, head, precision)
    except KeyError as error:
        raise InvalidInput(
            f"The checkpoint has no weight {error}. It must be a BERT model"
            f"{' with a classifier of one output' if head == 'score' else ''}; "
            "export other architectures to ONNX first."
        ) from error


def _write_bert(
    weights: Weights, config: BertConfig, head: Head, precision: Precision
) -> onnx.ModelProto:
    graph = Graph(precision)
    hidden = weights["embeddings.word_embeddings.weight"].shape[1]
    inputs: Inputs = ["input_ids", "attention_mask"]
    typed = weights["embeddings.token_type_embeddings.weight"].shape[0] > 1
    if head in ("score", "tokens") and typed:
        inputs.append("token_type_ids")
    x = _embeddings(graph, weights, config, inputs)
    bias = _attention_bias(graph)
    for layer in range(config.layers):
        alone = head in ("cls", "score") and layer == config.layers - 1
        x = _layer(graph, x, bias, weights, f"encoder.layer.{layer}", config, hidden, alone)
    output, width = _head(graph, x, weights, head, hidden)
    shape: list[str | int | None] = (
        ["batch", "length", width] if head == "tokens" else ["batch", width]
    )
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bert",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
                for name in inputs
            ],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="neuralrank",
    )
    if fits_one_file(model):  # the checker reads no larger one from memory
        onnx.checker.check_model(model)
    return model


def _embeddings(graph: Graph, weights: Weights, config: BertConfig, inputs: Inputs) -> str:
    positions = weights["embeddings.position_embeddings.weight"][config.first_position :]
    types = weights["embeddings.token_type_embeddings.weight"]
    if "token_type_ids" not in inputs:
        positions = positions + types[0]  # every token is of type 0
    # Positions 0 … length-1 are a slice of the table.
    length = graph.op("Shape", "length", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    table = graph.constant("position_table", positions)
    summed = graph.op(
        "Add",
        "words_and_positions",
        _words(graph, weights["embeddings.word_embeddings.weight"]),  # [batch, length, hidden]
        graph.op("Slice", "positions", table, zero, length, zero),  # [length, hidden]
    )
    if "token_type_ids" in inputs:
        typed = graph.op("Gather", "types", graph.constant("type_table", types), "token_type_ids")
        summed = graph.op("Add", "words_positions_types", summed, typed)
    if MATCHES in weights:
        summed = graph.op("Add", "words_and_matches", summed, matches(graph, weights))
    return graph.layer_norm("embeddings", summed, weights, "embeddings.LayerNorm", config.epsilon)


def _words(graph: Graph, table: NDArray[np.float32]) -> str:
    if graph.precision == "fp32":
        return graph.op("Gather", "words", graph.constant("word_table", table), "input_ids")
    # The table is most of a multilingual model: int8, a scale a row, makes it four times smaller.
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / 127.0
    rows = graph.constant("word_table", np.rint(table / scale).astype(np.int8))
    scales = graph.constant("word_scale", scale.astype(np.float32))
    gathered = graph.op("Gather", "words.i8", rows, "input_ids")
    return graph.op(
        "Mul",
        "words",
        graph.op("Cast", "words.f32", gathered, to=TensorProto.FLOAT),
        graph.op("Gather", "words.scale", scales, "input_ids"),
    )


def _attention_bias(graph: Graph) -> str:
    """0 where a token is, a large negative number where padding is: [batch, 1, 1, length]."""
    mask = graph.op("Cast", "mask", "attention_mask", to=TensorProto.FLOAT)
    axes = graph.constant("mask_axes", np.array([1, 2], np.int64))
    bias = graph.op("Sub", "mask.minus_one", mask, graph.number("one", 1.0))
    bias = graph.op("Mul", "mask.bias", bias, graph.number("mask.large", 10_000.0))
    return graph.op("Unsqueeze", "attention_bias", bias, axes)


def _layer(
    graph: Graph, x: str, bias: str, weights: Weights, key: str, config: BertConfig, hidden: int,
    alone: bool,
) -> str:  # fmt: skip
    """A layer's output: [batch, length, hidden]; with `alone`, of the first token only:
    [batch, 1, hidden]."""
    name = key.replace("encoder.layer.", "layer")
    attention = f"{key}.attention.self"
    size = hidden // config.heads
    width = weights[f"{attention}.query.weight"].shape[0]
    # The scale of the scores, 1/√size, is folded into the query.
    query = {f"{attention}.query": float(size**-0.5)}
    others = {f"{attention}.key": 1.0, f"{attention}.value": 1.0}
    if alone:
        k, v = _heads(graph, f"{name}.kv", x, weights, others, config.heads, size)
        ends = [("zero", 0), ("one_token", 1), ("token_axis", 1)]
        cut = [graph.constant(of, np.array([at], np.int64)) for of, at in ends]
        x = graph.op("Slice", f"{name}.first", x, *cut)  # [batch, 1, hidden]
        (q,) = _heads(graph, f"{name}.query", x, weights, query, config.heads, size)
    else:
        q, k, v = _heads(graph, f"{name}.qkv", x, weights, query | others, config.heads, size)
    keys = graph.op("Transpose", f"{name}.keys", k, perm=[0, 1, 3, 2])
    if f"{attention}.prefix.key" in weights:
        keys, v, bias = prefixed(graph, name, keys, v, bias, weights, attention)
    scores = graph.op("Add", f"{name}.scores", graph.op("MatMul", f"{name}.dots", q, keys), bias)
    mixed = graph.op(
        "MatMul", f"{name}.mixed", graph.op("Softmax", f"{name}.attention", scores, axis=-1), v
    )
    merged = graph.op(
        "Reshape",
        f"{name}.merged",
        graph.op("Transpose", f"{name}.tokens", mixed, perm=[0, 2, 1, 3]),
        graph.constant(f"hidden.{width}", np.array([0, 0, width], np.int64)),
    )
    attended = graph.layer(f"{name}.attended", merged, weights, f"{key}.attention.output.dense")
    attended = adapted(graph, attended, weights, f"{key}.attention.output.dense")
    x = graph.op("Add", f"{name}.residual", x, attended)
    norm = f"{key}.attention.output.LayerNorm"
    x = graph.layer_norm(f"{name}.norm", x, weights, norm, config.epsilon)
    inner = graph.layer(f"{name}.inner", x, weights, f"{key}.intermediate.dense")
    inner = graph.op("Gelu", f"{name}.gelu", inner)
    outer = graph.layer(f"{name}.outer", inner, weights, f"{key}.output.dense")
    outer = adapted(graph, outer, weights, f"{key}.output.dense")
    x_outer = graph.op("Add", f"{name}.outer_residual", x, outer)
    return graph.layer_norm(
        f"{name}.output", x_outer, weights, f"{key}.output.LayerNorm", config.epsilon
    )


def _heads(
    graph: Graph, name: str, x: str, weights: Weights, parts: Mapping[str, float], usual: int,
    size: int,
) -> list[str]:  # fmt: skip
    """Projections of x in one product, each by its factor and cut into heads of a size:
    [batch, heads, length, size] each."""
    joined = graph.linear(
        name,
        x,
        np.concatenate([weights[f"{part}.weight"] * np.float32(by) for part, by in parts.items()]),
        np.concatenate([weights[f"{part}.bias"] * np.float32(by) for part, by in parts.items()]),
    )  # [batch, length, parts * heads * size]
    count = len(parts)
    heads = weights[f"{next(iter(parts))}.weight"].shape[0] // size
    # Of a layer that was pruned, constants of its own.
    own = f"heads.{count}" if heads == usual else f"heads.{count}.{heads}"
    shape = graph.constant(own, np.array([0, 0, count, heads, size], np.int64))
    split = graph.op("Reshape", f"{name}.split", joined, shape)
    split = graph.op("Transpose", f"{name}.heads", split, perm=[2, 0, 3, 1, 4])
    return [
        graph.op("Gather", f"{name}.{at}", split, graph.constant(f"part{at}", np.array(at)), axis=0)
        for at in range(len(parts))
    ]


def _head(graph: Graph, x: str, weights: Weights, head: Head, hidden: int) -> tuple[str, int]:
    """The output's name and width."""
    # What is no layer is small: it stays exact.
    exact = Graph("fp32", graph.nodes, graph.initializers)
    if head == "tokens":
        narrow = exact.layer("projection", x, weights, "projection")  # [batch, length, width]
        tokens = graph.op("LpNormalization", "token_embeddings", narrow, axis=-1, p=2)
        return tokens, weights["projection.weight"].shape[0]
    if head == "mean":
        axis = graph.constant("length_axis", np.array([1], np.int64))
        mask = graph.op(
            "Unsqueeze",
            "mask.column",
            "mask",
            graph.constant("last_axis", np.array([-1], np.int64)),
        )  # [batch, length, 1]
        total = graph.op("ReduceSum", "total", graph.op("Mul", "kept", x, mask), axis, keepdims=0)
        count = graph.op("ReduceSum", "count", mask, axis, keepdims=0)
        pooled = graph.op("Div", "pooled", total, count)
    else:
        first = graph.constant("first_token", np.array(0))
        pooled = graph.op("Gather", "pooled", x, first, axis=1)  # [batch, hidden]
    if head != "score":
        return graph.op("LpNormalization", "sentence_embedding", pooled, axis=-1, p=2), hidden
    dense = graph.op("Tanh", "pooler", exact.layer("pooler.dense", pooled, weights, "pooler.dense"))
    outputs = weights["classifier.weight"].shape[0]
    if outputs != 1:
        raise InvalidInput(
            f"The classifier has {outputs} outputs; a cross-encoder for ranking has 1 (a relevance "
            "logit). Choose another checkpoint or export the one output that means relevance."
        )
    return exact.layer("logits", dense, weights, "classifier"), 1
