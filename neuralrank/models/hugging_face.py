"""Reads a Hugging Face folder: safetensors of a BERT family model, or an exported ONNX graph."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load_file

from neuralrank.errors import InvalidInput
from neuralrank.models.bert import BertConfig, Head, Precision, Weights, write_bert
from neuralrank.models.checkpoint import Checkpoint
from neuralrank.onnx_file import read_onnx

__all__ = ["Pooling", "Source", "read_folder", "read_json", "read_weights"]

Pooling = Literal["cls", "mean"]

_FAMILIES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
# Their positions begin after the padding index, so that they read fewer tokens than they have
# positions.
_AFTER_PADDING: Final = frozenset({
    "camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
# By the names of sentence-transformers 6.2 and by those before. A sum has the same direction
# whatever it is divided by.
_POOLING: Final[dict[str, Pooling]] = {
    "cls": "cls",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",
}


@dataclass(frozen=True)
class Source:
    """What a folder gives: the graph, and the manifest's fields that the folder knows."""

    model: onnx.ModelProto
    kind: Literal["encoder", "cross_encoder"]
    precision: str
    fields: dict[str, Any]
    # Whether token vectors are averaged because nothing says how they become one.
    assumes_mean: bool = False


def read_folder(
    folder: Path, kind: str, precision: Precision, pooling: Pooling | None = None
) -> Source:
    """The model in a folder as `save_pretrained` or an ONNX export leaves it.

    Args:
        kind: "encoder", "cross_encoder" or "" for what `config.json` says.
        precision: for safetensors; an ONNX graph is taken as it is.
        pooling: how an encoder's token vectors become one; None: as the folder says, else mean.

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
    stated = None
    if chosen == "encoder":
        modules = _modules(folder)
        stated = pooling or _stated_pooling(folder, modules)
    head: Head = "score" if chosen == "cross_encoder" else stated or "mean"
    pools = chosen == "encoder"
    weights = (folder / "model.safetensors").is_file()
    if weights and not (graphs and _unreadable(folder, config)):
        model = write_bert(*_from_weights(folder, config), head, precision)
    elif graphs:
        model, precision = _from_graph(graphs[0]), "fp32"
        pools = pools and _gives_token_vectors(model, graphs[0])
        if pools:
            _add_pooling(model, head)
        elif pooling:
            raise InvalidInput(
                f"{graphs[0]} gives one vector a text already, so that there is nothing to pool: "
                "leave out --pooling."
            )
    else:
        _refuse_shards(folder)
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InvalidInput(
            f"{folder} has neither model.safetensors nor model.onnx (it has {found}). A pickle "
            "(pytorch_model.bin) is never loaded: save the model with `safe_serialization=True`."
        )
    fields = _fields(folder, config)
    if chosen == "encoder":
        width = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
        fields |= {"dimensions": width or int(config["hidden_size"]), "normalized": True}
    return Source(
        model,
        "encoder" if chosen == "encoder" else "cross_encoder",
        precision,
        fields,
        assumes_mean=pools and stated is None,
    )


def _refuse_shards(folder: Path) -> None:
    """Weights in several files: none of a size that anything here could serve needs them."""
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").exists():
        raise InvalidInput(
            f"{folder} holds its weights in several files ({index.name}); allowed is one, "
            "model.safetensors: save the model with `max_shard_size` above its size, such as "
            '`save_pretrained(folder, max_shard_size="50GB")`.'
        )


def read_weights(folder: Path) -> Checkpoint:
    """The weights in a folder as `save_pretrained` leaves it, as they are to be trained further.

    Raises:
        InvalidInput: there are none of a BERT family; the message says what was looked for.
    """
    config = read_json(folder / "config.json")
    _refuse_shards(folder)
    for name in ("tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"{folder} has no {name}. To be trained from, a folder holds config.json, "
                "model.safetensors and tokenizer.json, as `save_pretrained` of a model and of its "
                "fast tokenizer leave them."
            )
    weights, sizes = _from_weights(folder, config)
    head: Head = "score"
    if "classifier.weight" not in weights:
        head = _stated_pooling(folder, _modules(folder)) or "mean"
    tokenizer = (folder / "tokenizer.json").read_bytes()
    return Checkpoint(weights, sizes, head, tokenizer, _fields(folder, config))


def _unreadable(folder: Path, config: dict[str, Any]) -> str:
    """Why weights of such a model can't be read; "" where they can."""
    family = config.get("model_type", "")
    if family not in _FAMILIES:
        return (
            f"{folder} holds a model of type {family!r}; safetensors of {', '.join(_FAMILIES)} can "
            "be read. Export others to ONNX (for example by optimum) and add that folder."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        return (
            f"{folder}: activation {config['hidden_act']!r}; only gelu can be read. Export the "
            "model to ONNX (for example by optimum) and add that folder."
        )
    if (positions := config.get("position_embedding_type") or "absolute") != "absolute":
        return (
            f"{folder}: position_embedding_type {positions!r}; only absolute can be read. Export "
            "the model to ONNX (for example by optimum) and add that folder."
        )
    return ""


def _from_weights(folder: Path, config: dict[str, Any]) -> tuple[Weights, BertConfig]:
    if why := _unreadable(folder, config):
        raise InvalidInput(why)
    family = config["model_type"]
    file = folder / "model.safetensors"
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise InvalidInput(
            f"{file} can't be read ({error}): it is damaged, cut short, or not the weights "
            "themselves but what git keeps in their place (`git lfs pull` fetches them)."
        ) from error
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
    sizes = BertConfig(
        layers=_whole(folder, config, "num_hidden_layers"),
        heads=_whole(folder, config, "num_attention_heads"),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        first_position=_first_position(config),
    )
    return named, sizes


def _whole(folder: Path, config: dict[str, Any], name: str) -> int:
    """A number that the shapes of the weights do not tell."""
    found = config.get(name)
    if not isinstance(found, int) or found < 1:
        raise InvalidInput(
            f"{folder / 'config.json'}: {name} is {found!r}; it must be a whole number of 1 or "
            "more. Save the model anew with `save_pretrained`."
        )
    return found


def _from_graph(path: Path) -> onnx.ModelProto:
    model = read_onnx(path)
    known = {"input_ids", "attention_mask", "token_type_ids"}
    unknown = {i.name for i in model.graph.input} - known
    if unknown:
        raise InvalidInput(f"{path} has inputs {sorted(unknown)}; known are {sorted(known)}.")
    return model


def _gives_token_vectors(model: onnx.ModelProto, path: Path) -> bool:
    """Whether an encoder's graph gives a vector of each token, and not of each text."""
    output = model.graph.output[0]
    rank = len(output.type.tensor_type.shape.dim)
    if rank not in (2, 3):
        raise InvalidInput(f"{path}: output {output.name} has {rank} dimensions; 2 or 3 are known.")
    return rank == 3


def _add_pooling(model: onnx.ModelProto, head: Head) -> None:
    """Has a graph that gives token vectors give one of length 1."""
    output = model.graph.output[0]
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


def _modules(folder: Path) -> dict[str, str]:
    """The modules of a folder of sentence-transformers, and the folder that each has within it."""
    modules = {
        module["type"].rpartition(".")[2]: module.get("path", "")
        for module in read_json(folder / "modules.json", [])
    }
    if set(modules) - {"Transformer", "Pooling", "Normalize"}:
        raise InvalidInput(
            f"{folder} has the modules {list(modules)}; only Transformer, Pooling, Normalize."
        )
    return modules


def _stated_pooling(folder: Path, modules: dict[str, str]) -> Pooling | None:
    """How token vectors become one, as sentence-transformers writes it; None where the folder says
    nothing of it."""
    file = folder / (modules.get("Pooling") or "1_Pooling") / "config.json"
    said = read_json(file, {})
    if not said:
        return None
    modes = said.get("pooling_mode") or [
        name for name, chosen in said.items() if name.startswith("pooling_mode_") and chosen
    ]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise InvalidInput(
            f"{file}: token vectors are pooled by {', '.join(map(str, modes))}; allowed is one of "
            "cls, mean and mean_sqrt_len_tokens."
        )
    if said.get("include_prompt") is False:
        raise InvalidInput(
            f"{file}: include_prompt is false; only models that pool their prompts' tokens, too, "
            "can be added."
        )
    return _POOLING[modes[0]]


def _first_position(config: dict[str, Any]) -> int:
    if config.get("model_type") not in _AFTER_PADDING:
        return 0
    padding = config.get("pad_token_id")
    return (1 if padding is None else int(padding)) + 1


def _fields(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The manifest's fields that a folder says, and no others."""
    limits = (
        int(config.get("max_position_embeddings", 512)) - _first_position(config),
        read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length"),
        # "No limit" is 1e30 there.
        read_json(folder / "tokenizer_config.json", {}).get("model_max_length"),
    )
    prompts = read_json(folder / "config_sentence_transformers.json", {}).get("prompts") or {}
    prefixes = {
        "query_prefix": prompts.get("query"),
        "passage_prefix": prompts.get("passage") or prompts.get("document"),
    }
    return {
        "max_tokens": int(min(limit for limit in limits if limit)),
        **{name: prefix for name, prefix in prefixes.items() if prefix},
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
        found = json.loads(path.read_text())
    except ValueError as error:  # or no UTF-8
        raise InvalidInput(f"{path} is not JSON: {error}.") from error
    wanted = dict if default is None else type(default)
    if not isinstance(found, wanted):
        raise InvalidInput(
            f"{path} holds {json.dumps(found)[:40]}; it must hold "
            f"{'a list' if wanted is list else 'an object'}, as whoever saves a model writes it."
        )
    return found
