"""The ranker's ONNX graph, from its weights (docs/decisions/001-bundles-without-torch.md)."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from neuralrank.models.onnx_graph import Graph, Weights
from neuralrank.personal.inputs import HEADS
from trainer.personal.ranker import HIDDEN, RankerModel

__all__ = ["write_graph"]

_OPSET: Final = 20  # the first with Gelu
_IR_VERSION: Final = 9
_USERS, _EVENTS, _CANDIDATES = "users", "events", "candidates"


def write_graph(
    model: RankerModel, heads: Sequence[str], low: Sequence[float], high: Sequence[float]
) -> onnx.ModelProto:
    """The model for serving: scores float32 [users, candidates, heads].

    Args:
        heads: those that were trained.
        low, high: of each head, the scores that become 0 and 1.
    """
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    rows = [HEADS.index(head) for head in heads]
    writer = _Writer(weights)
    shape = model.shape
    scores = writer.scores(rows)
    span = np.array(high, np.float32) - np.array(low, np.float32)
    shifted = writer.op("Sub", "shifted", scores, writer.array("low", np.array(low, np.float32)))
    writer.op("Div", "scores", shifted, writer.array("span", span))
    floats, ints = TensorProto.FLOAT, TensorProto.INT64
    inputs: dict[str, tuple[int, list[str | int]]] = {
        "events": (floats, [_USERS, _EVENTS, shape.dimensions]),
        "ages": (floats, [_USERS, _EVENTS]),
        "actions": (ints, [_USERS, _EVENTS]),
        "present": (TensorProto.BOOL, [_USERS, _EVENTS]),
        "candidates": (floats, [_USERS, _CANDIDATES, shape.dimensions]),
        "query": (floats, [_USERS, shape.dimensions]),
        "features": (floats, [_USERS, _CANDIDATES, shape.features]),
        "event_ids": (ints, [_USERS, _EVENTS]),
        "candidate_ids": (ints, [_USERS, _CANDIDATES]),
        "pairs": (floats, [_USERS, _EVENTS, _CANDIDATES, shape.pair_features]),
    }
    made = helper.make_model(
        helper.make_graph(
            writer.graph.nodes,
            "personal_ranker",
            [
                helper.make_tensor_value_info(name, kind, sizes)
                for name, (kind, sizes) in inputs.items()
            ],
            [helper.make_tensor_value_info("scores", floats, [_USERS, _CANDIDATES, len(rows)])],
            list(writer.graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="neuralrank",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


class _Writer:
    """Node by node what `RankerModel.read` computes; the same comments hold for shapes."""

    def __init__(self, weights: Weights) -> None:
        self.graph = Graph("fp32")
        self.op, self.array = self.graph.op, self.graph.constant
        self._weights = weights

    def scores(self, rows: Sequence[int]) -> str:
        """Before they are shifted, [b, n, heads].

        Args:
            rows: of the heads.
        """
        events, candidates = self._content("events"), self._content("candidates")
        query = self._content(self._wider("query", "query.wide", 1))  # [b, 1, d]
        event = self._tower(events, "event_ids")  # [b, l, w]
        item = self._tower(candidates, "candidate_ids")  # [b, n, w]
        there = self._wider("present", "there", 2, 3)  # [b, l, 1, 1]
        pair = self._pairs(events, candidates, event, item)  # [b, l, n, w]
        weights = self._attention(pair, there)  # [b, l, n, 2]
        counts = self._column(weights, 0, "counts")  # [b, l, n]
        weighed = self.op(
            "Mul", "weighed", self._wider(counts, "counts.wide", 3),
            self._linear("value", "value", pair),
        )  # fmt: skip
        pooled = self._reduced("ReduceSum", "pooled", weighed, 1)  # [b, n, w]
        shown = self.op("Where", "pair.there", there, pair, self._zero)
        highest = self._reduced("ReduceMax", "most.all", shown, 1)
        most = self.op("Max", "most", highest, self._zero)  # [b, n, w]
        to_events = self.op(
            "Transpose", "to_events", self._column(weights, 1, "matters"), perm=[0, 2, 1]
        )
        user = self.op("MatMul", "user", to_events, event)  # [b, n, w]
        matched = self.op("MatMul", "matched", candidates, self._transposed(query))  # [b, n, 1]
        column = self._shape(matched)
        asked = self._is_given("query.wide", "asked")  # [b, 1, 1]
        known = self._reduced("ReduceMax", "known.user", self._float("present"), 1)  # [b]
        columns = [
            pooled, most, self.op("Mul", "both", user, item), user, matched,
            self.op("Expand", "asked.wide", asked, column),
            self.op("Expand", "known", self._wider(known, "known.wide", 1, 2), column),
            self._features(),
        ]  # fmt: skip
        hidden = self.op("Concat", "score.in", *columns, axis=-1)
        for layer in (0, 3):  # between them dropout, which serves nothing
            hidden = self._linear(f"score.{layer}", f"score.hidden.{layer}", hidden)
            hidden = self.op("Gelu", f"{hidden}.gelu", hidden)
        score = self.graph.linear(
            "score.out", hidden, self._weights["score.5.weight"][rows],
            self._weights["score.5.bias"][rows],
        )  # fmt: skip
        near = self.op(
            "Mul", "near", self._cosine(user, item),
            self.array("closeness", np.exp(self._weights["closeness"][rows])),
        )  # fmt: skip
        table = self.array("prior.table", self._weights["prior.weight"][:, rows])
        prior = self.op("Gather", "prior", table, "candidate_ids")
        return self.op("Add", "scored", self.op("Add", "nearer", score, near), prior)

    def _content(self, name: str) -> str:
        moved = self.op("Sub", f"{name}.moved", name, self._weight("centre"))
        unit = self._unit(moved, f"{name}.unit", 1e-12)
        return self.op("Mul", f"{name}.content", unit, self._is_given(name, f"{name}.given"))

    def _tower(self, content: str, ids: str) -> str:
        tower = self._linear("tower", f"{content}.tower", content)
        identity = self.op("Gather", f"{ids}.identity", self._weight("identity.weight"), ids)
        return self.op("Add", f"{content}.vector", tower, identity)

    def _pairs(self, events: str, candidates: str, event: str, item: str) -> str:
        product = self.op("MatMul", "alike", events, self._transposed(candidates))
        near = self.op(
            "MatMul", "near.towers", self._unit(event, "event.unit", 1e-12),
            self._transposed(self._unit(item, "item.unit", 1e-12)),
        )  # fmt: skip
        alike = self._wider(product, "alike.wide", 3)  # [b, l, n, 1]
        age = self._wider("ages", "age", 2)  # [b, l, 1]
        one = self.graph.number("one", 1.0)
        later = self.op("Add", "age.later", age, one)
        ages = self.op(
            "Concat", "age.columns", self.op("Log", "age.log", later),
            self.op("Div", "age.inverse", one, later), axis=-1,
        )  # fmt: skip
        action = self.op("Gather", "action", self._weight("action.weight"), "actions")
        shape = self._shape(alike)

        def over_candidates(name: str) -> str:
            return self.op("Expand", f"{name}.over", self._wider(name, f"{name}.wide", 2), shape)

        counted = self.op("Div", "pairs.scaled", "pairs", self._weight("pair_scale"))
        hidden = self.op(
            "Concat", "pair.in", alike, self._wider(near, "near.wide", 3), over_candidates(ages),
            over_candidates(action), counted, axis=-1,
        )  # fmt: skip
        for layer in (0, 2):
            hidden = self._linear(f"pair.{layer}", f"pair.hidden.{layer}", hidden)
            hidden = self.op("Gelu", f"{hidden}.gelu", hidden)
        return hidden

    def _attention(self, pair: str, there: str) -> str:
        logits = self._linear("attention", "attention", pair)
        masked = self.op(
            "Where", "attention.there", there, logits, self.graph.number("hidden", HIDDEN)
        )
        weights = self.op("Softmax", "attention.weights", masked, axis=1)
        return self.op("Mul", "weights", weights, self._float(there))

    def _features(self) -> str:
        absent = self.op("IsNaN", "features.absent", "features")
        scaled = self.op(
            "Div", "features.scaled",
            self.op("Sub", "features.moved", "features", self._weight("feature_mean")),
            self._weight("feature_scale"),
        )  # fmt: skip
        filled = self.op("Where", "features.filled", absent, self._zero, scaled)
        present = self.op("Not", "features.present", absent)
        return self.op("Concat", "features.in", filled, self._float(present), axis=-1)

    def _cosine(self, user: str, item: str) -> str:
        """[b, n, 1]."""
        units = [self._unit(name, f"{name}.direction", 1e-6) for name in (user, item)]
        product = self.op("Mul", "cosine.parts", *units)
        return self.op(
            "ReduceSum", "cosine", product, self.array("axis.-1", np.array([-1])), keepdims=1
        )

    def _unit(self, name: str, to: str, floor: float) -> str:
        axis = self.array("axis.-1", np.array([-1]))
        length = self.op("ReduceL2", f"{to}.length", name, axis, keepdims=1)
        bounded = self.op("Max", f"{to}.bounded", length, self.graph.number(f"{floor:g}", floor))
        return self.op("Div", to, name, bounded)

    def _is_given(self, name: str, to: str) -> str:
        """Whether a vector is not all zeros, [.., 1]."""
        axis = self.array("axis.-1", np.array([-1]))
        largest = self.op(
            "ReduceMax", f"{to}.largest", self.op("Abs", f"{to}.abs", name), axis, keepdims=1
        )
        return self._float(self.op("Greater", f"{to}.positive", largest, self._zero))

    def _linear(self, key: str, to: str, x: str) -> str:
        # The constants are shared by all that the layer reads.
        weight = self.array(f"{key}.weight.t", self._weights[f"{key}.weight"].T)
        return self.op("Add", to, self.op("MatMul", f"{to}.product", x, weight),
                       self._weight(f"{key}.bias"))  # fmt: skip

    def _weight(self, key: str) -> str:
        return self.array(key, self._weights[key])

    @property
    def _zero(self) -> str:
        return self.graph.number("zero", 0.0)

    def _float(self, name: str) -> str:
        return self.op("Cast", f"{name}.float", name, to=TensorProto.FLOAT)

    def _shape(self, name: str) -> str:
        return self.op("Shape", f"{name}.shape", name)

    def _transposed(self, name: str) -> str:
        return self.op("Transpose", f"{name}.transposed", name, perm=[0, 2, 1])

    def _column(self, name: str, place: int, to: str) -> str:
        return self.op("Gather", to, name, self.array(f"column.{place}", np.array(place)), axis=3)

    def _wider(self, name: str, to: str, *axes: int) -> str:
        label = ".".join(map(str, axes))
        return self.op("Unsqueeze", to, name, self.array(f"axes.{label}", np.array(axes)))

    def _reduced(self, kind: str, to: str, name: str, axis: int) -> str:
        axes = self.array(f"axes.{axis}", np.array([axis]))
        return self.op(kind, to, name, axes, keepdims=0)
