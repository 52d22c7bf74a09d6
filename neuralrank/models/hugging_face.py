"""Reads a Hugging Face folder: safetensors of a BERT family model, or an exported ONNX graph."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import BertConfig, Head, Precision, Weights, write_bert
from neuralrank.models.checkpoint import Checkpoint
from neuralrank.models.onnx_file import read_onnx

__all__ = ["Source", "read_folder", "read_json", "read_weights"]

_FAMILIES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}


@dataclass(frozen=True)
class Source:
    """What a folder gives: the graph, and the manifest's fields that the folder knows."""

    model: onnx.ModelProto
    kind: Literal["encoder", "cross_encoder"]
    precision: str
    fields: dict[str, Any]


def read_folder(folder: Path, kind: str, precision: Precision) -> Source:
    """The model in a folder as `save_pretrained` or an ONNX export leaves it.

    Args:
        kind: "encoder", "cross_encoder" or "" for what `config.json` says.
        precision: for safetensors; an ONNX graph is taken as it is.

    Raises:
        InvalidInput: the folder holds no model that can be used; the message says what was looked
            for.
    """
    config = read_json(folder / "config.json")
    graphs = [
        path for path in (folder / "model.onnx", folder / "onnx/model.onnx") if path.is_file()
    ]
    if not (folder / "tokenizer.json").is_file():
        raise InvalidInput(
            f"{folder} has no tokenizer.json. Save it with a fast tokenizer: "
            "`AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(folder)`."
        )
    guessed = any("SequenceClassification" in name for name in config.get("architectures") or [])
    chosen = kind or ("cross_encoder" if guessed else "encoder")
    if chosen not in ("encoder", "cross_encoder"):
        raise InvalidInput(
            f"Kind {chosen!r} can't be added from a folder; encoder, cross_encoder or "
            "image_encoder."
        )
    head: Head = "score" if chosen == "cross_encoder" else _pooling(folder)
    fields = _fields(folder, config)
    if (folder / "model.safetensors").is_file():
        model = write_bert(*_from_weights(folder, config), head, precision)
    elif graphs:
        model, precision = _from_graph(graphs[0], head), "fp32"
    else:
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InvalidInput(
            f"{folder} has neither model.safetensors nor model.onnx (it has {found}). A pickle "
            "(pytorch_model.bin) is never loaded: save the model with `safe_serialization=True`."
        )
    if chosen == "encoder":
        width = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
        fields |= {"dimensions": width or int(config["hidden_size"]), "normalized": True}
    return Source(model, "encoder" if chosen == "encoder" else "cross_encoder", precision, fields)


def read_weights(folder: Path) -> Checkpoint:
    """The weights in a folder as `save_pretrained` leaves it, as they are to be trained further.

    Raises:
        InvalidInput: there are none of a BERT family; the message says what was looked for.
    """
    config = read_json(folder / "config.json")
    for name in ("tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"{folder} has no {name}. To be trained from, a folder holds config.json, "
                "model.safetensors and tokenizer.json, as `save_pretrained` of a model and of its "
                "fast tokenizer leave them."
            )
    weights, sizes = _from_weights(folder, config)
    head: Head = "score" if "classifier.weight" in weights else _pooling(folder)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    return Checkpoint(weights, sizes, head, tokenizer, _fields(folder, config))


def _from_weights(folder: Path, config: dict[str, Any]) -> tuple[Weights, BertConfig]:
    weights = load_file(folder / "model.safetensors")
    family = config.get("model_type", "")
    if family not in _FAMILIES:
        raise InvalidInput(
            f"{folder} holds a model of type {family!r}; safetensors of {', '.join(_FAMILIES)} can "
            "be read. Export others to ONNX (for example by optimum) and add that folder."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise InvalidInput(f"{folder}: activation {config['hidden_act']!r}; only gelu can be read.")
    named: Weights = {
        name.removeprefix(_FAMILIES[family]): np.asarray(value, np.float32)
        for name, value in weights.items()
    }
    if family != "bert":
        # RoBERTa calls the same two layers otherwise.
        names = {"classifier.dense": "pooler.dense", "classifier.out_proj": "classifier"}
        named = {
            next(
                (new + key[len(old) :] for old, new in names.items() if key.startswith(old)), key
            ): value
            for key, value in named.items()
        }
    first = 0 if family == "bert" else int(config.get("pad_token_id", 1)) + 1
    sizes = BertConfig(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        first_position=first,
    )
    return named, sizes


def _from_graph(path: Path, head: Head) -> onnx.ModelProto:
    """An exported graph, with pooling and normalisation added where it gives token vectors."""
    model = read_onnx(path)
    known = {"input_ids", "attention_mask", "token_type_ids"}
    unknown = {i.name for i in model.graph.input} - known
    if unknown:
        raise InvalidInput(f"{path} has inputs {sorted(unknown)}; known are {sorted(known)}.")
    output = model.graph.output[0]
    rank = len(output.type.tensor_type.shape.dim)
    if head == "score" or rank == 2:
        return model
    if rank != 3:
        raise InvalidInput(f"{path}: output {output.name} has {rank} dimensions; 2 or 3 are known.")
    width = output.type.tensor_type.shape.dim[-1].dim_value
    graph = model.graph
    numbers = {"nr.axis1": [1], "nr.axis2": [2], "nr.first": 0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()
    )
    steps: list[tuple[str, list[str], str, dict[str, Any]]]
    if head == "cls":
        steps = [("Gather", [output.name, "nr.first"], "nr.pooled", {"axis": 1})]
    else:
        steps = [
            ("Cast", ["attention_mask"], "nr.mask", {"to": TensorProto.FLOAT}),
            ("Unsqueeze", ["nr.mask", "nr.axis2"], "nr.column", {}),
            ("Mul", [output.name, "nr.column"], "nr.kept", {}),
            ("ReduceSum", ["nr.kept", "nr.axis1"], "nr.total", {"keepdims": 0}),
            ("ReduceSum", ["nr.column", "nr.axis1"], "nr.count", {"keepdims": 0}),
            ("Div", ["nr.total", "nr.count"], "nr.pooled", {}),
        ]
    steps.append(("LpNormalization", ["nr.pooled"], "sentence_embedding", {"axis": -1, "p": 2}))
    graph.node.extend(
        helper.make_node(kind, inputs, [name], name, **options)
        for kind, inputs, name, options in steps
    )
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", width])
    )
    return model


def _pooling(folder: Path) -> Head:
    modules = read_json(folder / "modules.json", [])
    extra = [m["type"].rpartition(".")[2] for m in modules]
    if set(extra) - {"Transformer", "Pooling", "Normalize"}:
        raise InvalidInput(
            f"{folder} has the modules {extra}; only Transformer, Pooling, Normalize."
        )
    pooling = read_json(folder / "1_Pooling/config.json", {})
    return "cls" if pooling.get("pooling_mode_cls_token") else "mean"


def _fields(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    limit = read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    longest = int(config.get("max_position_embeddings", 512))
    if config.get("model_type") in ("roberta", "xlm-roberta"):
        longest -= int(config.get("pad_token_id", 1)) + 1
    prompts = read_json(folder / "config_sentence_transformers.json", {}).get("prompts") or {}
    return {
        "max_tokens": min(int(limit or longest), longest),
        "query_prefix": prompts.get("query", ""),
        "passage_prefix": prompts.get("passage", prompts.get("document", "")),
    }


def read_json(path: Path, default: Any = None) -> Any:
    """What a file of the folder says.

    Raises:
        InvalidInput: it is no JSON; or it is missing, and there is no default.
    """
    if not path.is_file():
        if default is None:
            raise InvalidInput(f"{path} is missing: the folder is not one of Hugging Face's.")
        return default
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}.") from error
