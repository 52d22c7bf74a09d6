"""Real models that load in milliseconds: small BERTs of random weights, one token a character."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle
from neuralrank.models import measured
from neuralrank.models.bert import BertConfig, write_bert

__all__ = ["bert_weights", "character_tokenizer", "tiny_cross_encoder"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-"


def bert_weights(
    seed: int,
    characters: str,
    *,
    hidden: int,
    inner: int,
    layers: int,
    positions: int,
    types: int = 2,
) -> dict[str, NDArray[np.float32]]:
    """Random weights by Hugging Face name."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.2, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(len(_SPECIAL) + len(characters), hidden),
        "embeddings.position_embeddings.weight": normal(positions, hidden),
        "embeddings.token_type_embeddings.weight": normal(types, hidden),
        "pooler.dense.weight": normal(hidden, hidden),
        "pooler.dense.bias": normal(hidden),
        "classifier.weight": normal(1, hidden),
        "classifier.bias": normal(1),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        key = f"encoder.layer.{layer}"
        norms += [f"{key}.attention.output.LayerNorm", f"{key}.output.LayerNorm"]
        for name, rows, columns in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ]:
            weights[f"{key}.{name}.weight"] = normal(rows, columns)
            weights[f"{key}.{name}.bias"] = normal(rows)
    for name in norms:
        weights[f"{name}.weight"] = 1 + normal(hidden)
        weights[f"{name}.bias"] = normal(hidden)
    return weights


def character_tokenizer(characters: str) -> Tokenizer:
    """One token a character, `[CLS] a [SEP] b [SEP]`."""
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def tiny_cross_encoder(folder: Path, seed: int, layers: int = 2, name: str = "swapped") -> Bundle:
    """A cross-encoder of random weights, made and measured as the product makes bundles."""
    folder.mkdir(parents=True)
    weights = bert_weights(seed, _CHARACTERS, hidden=64, inner=128, layers=layers, positions=128)
    config = BertConfig(layers=layers, heads=4)
    onnx.save(write_bert(weights, config, "score", "fp32"), str(folder / MODEL))
    character_tokenizer(_CHARACTERS).save(str(folder / TOKENIZER))
    return measured(
        folder,
        {"name": name, "kind": "cross_encoder", "languages": ["en"], "max_tokens": 128},
    )
