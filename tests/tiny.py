"""Cross-encoders that load in milliseconds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle
from neuralrank.models import measured
from neuralrank.models.bert import BertConfig, write_bert

__all__ = ["tiny_cross_encoder"]


def tiny_cross_encoder(folder: Path, seed: int, layers: int = 2) -> Bundle:
    """A cross-encoder of random weights, made and measured as the product makes bundles."""
    folder.mkdir(parents=True)
    hidden, inner = 64, 128
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
    vocabulary = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters])}
    chance = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return chance.normal(0, 0.2, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(len(vocabulary), hidden),
        "embeddings.position_embeddings.weight": normal(128, hidden),
        "embeddings.token_type_embeddings.weight": normal(2, hidden),
        "pooler.dense.weight": normal(hidden, hidden),
        "pooler.dense.bias": normal(hidden),
        "classifier.weight": normal(1, hidden),
        "classifier.bias": normal(1),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        key = f"encoder.layer.{layer}"
        norms += [f"{key}.attention.output.LayerNorm", f"{key}.output.LayerNorm"]
        for part, rows, columns in [
            *((f"attention.self.{which}", hidden, hidden) for which in ("query", "key", "value")),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ]:
            weights[f"{key}.{part}.weight"] = normal(rows, columns)
            weights[f"{key}.{part}.bias"] = normal(rows)
    for norm in norms:
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = 1 + normal(hidden), normal(hidden)
    config = BertConfig(layers=layers, heads=4)
    onnx.save(write_bert(weights, config, "score", "fp32"), str(folder / MODEL))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / TOKENIZER))
    return measured(
        folder,
        {"name": "swapped", "kind": "cross_encoder", "languages": ["en"], "max_tokens": 128},
    )
