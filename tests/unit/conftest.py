"""Tiny real models: random weights of a small BERT through the product's own graph writer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.models import measured
from neuralrank.models.bert import BertConfig, write_bert
from tests.tiny import bert_weights, character_tokenizer

HIDDEN, LAYERS, HEADS, INNER = 32, 2, 4, 64
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789电脑手机苹果华为笔记本"
CONFIG = BertConfig(layers=LAYERS, heads=HEADS)


def tiny_weights(seed: int = 0, types: int = 2) -> dict[str, NDArray[np.float32]]:
    """Random weights by Hugging Face name."""
    return bert_weights(
        seed, CHARACTERS, hidden=HIDDEN, inner=INNER, layers=LAYERS, positions=64, types=types
    )


def tiny_tokenizer() -> Tokenizer:
    """One token a character, `[CLS] a [SEP] b [SEP]`."""
    return character_tokenizer(CHARACTERS)


def tiny_bundle(
    folder: Path, kind: str, precision: str = "fp32", types: int = 2, **fields: object
) -> Bundle:
    """A bundle of kind "encoder" or "cross_encoder" in a folder, made as the product makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "mean" if kind == "encoder" else "score"
    onnx.save(write_bert(tiny_weights(types=types), CONFIG, head, precision), str(folder / MODEL))
    tiny_tokenizer().save(str(folder / TOKENIZER))
    return write_bundle(
        folder,
        {
            "name": f"tiny-{kind.replace('_', '-')}",
            "kind": kind,
            "max_tokens": 64,
            "dimensions": HIDDEN if kind == "encoder" else 0,
            "normalized": kind == "encoder",
            "precision": precision,
            **fields,
        },
    )


# Photos of which nothing is changed, for `tiny_image_bundle`.
SMALL_PHOTO = {"size": 16, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def tiny_image_bundle(folder: Path, scale: float = 1.0, **fields: object) -> Bundle:
    """An image encoder by hand: the vector of a photo is its mean colour."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "sides"], ["colour"], keepdims=0),
        helper.make_node("Mul", ["colour", "scale"], ["scaled"]),
        helper.make_node("ReduceL2", ["scaled", "last"], ["length"], keepdims=1),
        helper.make_node("Div", ["scaled", "length"], ["vectors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(np.array([2, 3]), "sides"),
            numpy_helper.from_array(np.array([1]), "last"),
            numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(folder / MODEL))
    said = {"name": "tiny-images", "kind": "image_encoder", "dimensions": 3, "image": SMALL_PHOTO}
    return measured(folder, {**said, **fields})


def tiny_ranker(folder: Path, encoder: str, sign: float = 1.0, **fields: object) -> Bundle:
    """A personal ranker by hand: candidates by their dot product with the mean of the events."""
    folder.mkdir(parents=True, exist_ok=True)
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes = [
        helper.make_node("Cast", ["present"], ["here"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["here", "last"], ["there"]),
        helper.make_node("Mul", ["events", "there"], ["read"]),
        helper.make_node("ReduceMean", ["read", "axis"], ["user"], keepdims=1),
        helper.make_node("Transpose", ["user"], ["across"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["candidates", "across"], ["alike"]),
        helper.make_node("Mul", ["alike", "sign"], ["signed"]),
        helper.make_node("Concat", ["signed", "signed"], ["scores"], axis=-1),
    ]
    given = {
        "events": (TensorProto.FLOAT, ["b", "l", HIDDEN]),
        "present": (TensorProto.BOOL, ["b", "l"]),
        "candidates": (TensorProto.FLOAT, ["b", "n", HIDDEN]),
    }
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(name, *kind) for name, kind in given.items()],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", "n", 2])],
        [
            axis,
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array(sign, np.float32), "sign"),
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(folder / MODEL))
    reads = {
        "encoder": encoder, "events": 3, "heads": ["search", "recommendation"], "actions": [""],
        "features": [], "pairs": [],
    }  # fmt: skip
    return write_bundle(
        folder,
        {
            "name": "tiny-ranker",
            "kind": "personal_ranker",
            "dimensions": HIDDEN,
            "logit": {"low": -1.0, "high": 1.0},
            "personal": reads,
            **fields,
        },
    )


@pytest.fixture
def encoder_bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "encoder", "encoder")


@pytest.fixture
def cross_encoder_bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "cross", "cross_encoder", languages=["en"])
