"""A BERT in torch with its heads: a score, a vector of length 1, or one of each token."""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from neuralrank.errors import InvalidInput
from neuralrank.models import Checkpoint
from neuralrank.models.bert import BertConfig as Sizes
from neuralrank.models.bert import Head
from neuralrank.models.bert_matches import MATCHES
from trainer.text.additions import INNER, add_bottlenecks, add_prefixes
from trainer.text.widths import take_widths

__all__ = ["TextModel", "sizes_of", "weights_of"]

_WORDS = "embeddings.word_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_PROJECTION = "projection.weight"


class TextModel(nn.Module):
    """Computes what `neuralrank.models.bert.write_bert` writes of the same weights."""

    def __init__(
        self, checkpoint: Checkpoint, head: Head, *, seed: int = 0, dropout: float = 0.1
    ) -> None:
        """
        Args:
            head: a score that the checkpoint has no weights for starts at random.
            seed: of that.

        Raises:
            InvalidInput: a weight is missing, or has another shape than its neighbours.
                `projection.*` of the head `tokens` must be there: nothing else says how wide it is.
        """
        super().__init__()
        weights = dict(checkpoint.weights)
        weights[_POSITIONS] = weights[_POSITIONS][checkpoint.config.first_position :]
        self.head: Head = head
        self.bert = BertModel(_config(weights, checkpoint.config, dropout), head == "score")
        take_widths(self.bert, weights)
        hidden = weights[_WORDS].shape[1]
        if head == "score":
            self.classifier = nn.Linear(hidden, 1)
            self.dropout = nn.Dropout(dropout)
            _begin_at_random(self, seed)
        if head == "tokens":
            self.projection = nn.Linear(hidden, _width(weights))
        # As a checkpoint may have come from an encoder, or from a classifier of another kind.
        if head != "score" or weights.get("classifier.weight", np.zeros((0, 0))).shape[0] != 1:
            weights = {k: w for k, w in weights.items() if not k.startswith("classifier.")}
        if head != "score":  # an encoder reads one text at a time: nothing to score, none to match
            weights = {
                k: w for k, w in weights.items() if not k.startswith("pooler.") and k != MATCHES
            }
        self.marks_matches = MATCHES in weights
        if self.marks_matches:
            self.bert.embeddings.match_embeddings = nn.Embedding(2, hidden)
        if any(".prefix." in name for name in weights):
            key = "encoder.layer.0.attention.self.prefix.key"
            add_prefixes(self.bert, weights[key].shape[1])
        if any(".adapter." in name for name in weights):
            down = "encoder.layer.0.output.dense.adapter.down.weight"
            add_bottlenecks(self.bert, weights[down].shape[0])
        _fill(self, weights)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """
        Args:
            input_ids, attention_mask, token_type_ids: int64 [batch, length].

        Returns:
            Logits [batch] for the head `score`; else vectors of length 1, [batch, hidden], or
            [batch, length, width] for `tokens`.
        """
        embeddings = self.bert.embeddings
        words = embeddings.word_embeddings(input_ids)  # [batch, length, hidden]
        if self.marks_matches:
            words = words + embeddings.match_embeddings(_matched(input_ids, token_type_ids))
        if self.bert.config.type_vocab_size == 1:
            token_type_ids = torch.zeros_like(token_type_ids)
        output = self.bert(
            inputs_embeds=words, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        if self.head == "score":
            logits: Tensor = self.classifier(self.dropout(output.pooler_output))[:, 0]
            return logits
        tokens = output.last_hidden_state  # [batch, length, hidden]
        if self.head == "tokens":
            return nn.functional.normalize(self.projection(tokens).float(), dim=-1)
        if self.head == "cls":
            pooled = tokens[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # [batch, length, 1]
            pooled = (tokens * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(pooled, dim=-1)


def weights_of(model: TextModel) -> dict[str, NDArray[np.float32]]:
    """Weights by the names that `write_bert` takes; small weights of peft must be merged before."""
    found = {}
    for name, tensor in model.named_parameters():
        short = name.removeprefix("bert.").replace(f".{INNER}.", ".")
        found[short] = tensor.detach().float().cpu().numpy()
    return found


def sizes_of(model: TextModel) -> Sizes:
    """The sizes that go with `weights_of`."""
    config = model.bert.config
    return Sizes(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
    )


def _matched(input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
    """1 for tokens that the other text of the pair has too, else 0: int64 [batch, length]."""
    same_token = input_ids.unsqueeze(2) == input_ids.unsqueeze(1)
    other_text = token_type_ids.unsqueeze(2) != token_type_ids.unsqueeze(1)
    return (same_token & other_text).any(dim=2).long()


def _width(weights: Mapping[str, NDArray[np.float32]]) -> int:
    if _PROJECTION not in weights:
        raise InvalidInput(
            f"The checkpoint has no weight {_PROJECTION!r}: it is no late interaction."
        )
    return int(weights[_PROJECTION].shape[0])


def _config(weights: Mapping[str, NDArray[np.float32]], sizes: Sizes, dropout: float) -> BertConfig:
    try:
        words, hidden = weights[_WORDS].shape
        return BertConfig(
            vocab_size=words,
            hidden_size=hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=weights[_POSITIONS].shape[0],
            type_vocab_size=weights[_TYPES].shape[0],
            layer_norm_eps=sizes.epsilon,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            # A padding row would get no gradient, and id 0 is no padding in every vocabulary.
            pad_token_id=None,
        )
    except KeyError as error:
        raise InvalidInput(f"The checkpoint has no weight {error}: it is not a BERT.") from error


def _begin_at_random(model: TextModel, seed: int) -> None:
    """A new head, as BERT's authors begin it."""
    random = torch.Generator().manual_seed(seed)
    for layer in (model.bert.pooler.dense, model.classifier):
        nn.init.normal_(layer.weight, std=0.02, generator=random)
        nn.init.zeros_(layer.bias)


def _fill(model: TextModel, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Puts the checkpoint's weights where they belong; only a head may be missing, and nothing of
    the body may be left over: the model would compute something else without a word."""
    left = {name for name in weights if name.startswith(("embeddings.", "encoder."))}
    left.discard("embeddings.position_ids")  # no weight, though older checkpoints have it
    with warnings.catch_warnings():  # of arrays that can't be written to; they are copied
        warnings.simplefilter("ignore", UserWarning)
        for name, parameter in model.named_parameters():
            short = name.removeprefix("bert.").replace(f".{INNER}.", ".")
            if short not in weights and short.startswith(("pooler.", "classifier.")):
                continue
            found = weights.get(short)
            if found is None or found.shape != tuple(parameter.shape):
                shape = "no such weight" if found is None else f"one of shape {found.shape}"
                raise InvalidInput(
                    f"The model wants {short} of shape {tuple(parameter.shape)}, the checkpoint "
                    f"has {shape}: it is not a whole BERT."
                )
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(found))
            left.discard(short)
    if left:
        raise InvalidInput(
            f"The checkpoint has weights that a BERT has no place for: {sorted(left)[:3]}. Train "
            "from a BERT, RoBERTa or XLM-R as transformers has them."
        )
