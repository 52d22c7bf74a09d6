"""Pretraining as a task of the loop."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from neuralrank.models import Checkpoint
from neuralrank.text.tokens import read_tokenizer
from trainer.loop import Rows, Task, TrainingOptions
from trainer.pretrain.collating import Batch, Collator, masks_for
from trainer.pretrain.masking import IGNORED
from trainer.pretrain.texts import Corpus, Pair
from trainer.text.methods import Adapted

__all__ = ["METRIC", "pretraining"]

METRIC: Final = "dev_loss"

# What is hidden of the part that is held back is the same at every evaluation.
_DEV_SEED: Final = 20_190
_DEFAULT_TOKENS: Final = 128


def pretraining(
    adapted: Adapted,
    start: Checkpoint,
    corpus: Corpus,
    options: TrainingOptions,
    *,
    new: bool = False,
) -> Task:
    """The task: both losses added up, as in the paper; the loss on the part that is held back is
    what early stopping follows.

    Args:
        adapted: a `Pretraining` of `start`, as it is trained.
        new: whether the weights of `start` are random. A run that goes on need not have the same
            ones: another processor draws others.
    """
    tokenizer = read_tokenizer(start.tokenizer, "tokenizer.json")
    longest = min(options.max_length or _DEFAULT_TOKENS, start.positions)
    collate = Collator(tokenizer, masks_for(tokenizer), longest)

    def batch(rows: Rows, random: np.random.Generator) -> Batch:
        return collate([corpus.train[row] for row in rows.tolist()], corpus.train, random)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        random = np.random.default_rng(_DEV_SEED)
        size = options.batch_size
        parts = [corpus.dev[at : at + size] for at in range(0, len(corpus.dev), size)]
        return _measured(trained, [collate(part, corpus.dev, random) for part in parts])

    return Task(
        identity={
            "what": "pretrain",
            "source": start.fields.get("source", ""),
            "source_weights": "" if new else start.digest(),
            **_sizes(start),
            "corpus": _fingerprint(corpus),
        },
        model=adapted.model,
        examples=len(corpus.train),
        batch=batch,
        loss=lambda model, batch: _loss(model, batch) + adapted.penalty(),
        evaluate=evaluate,
        metric=METRIC,
        lower_is_better=True,
        extra=adapted.extra,
        describe=lambda row: repr(corpus.train[row].first[:40]),
    )


def _sizes(start: Checkpoint) -> dict[str, int | float]:
    words, hidden = start.weights["embeddings.word_embeddings.weight"].shape
    return {**asdict(start.config), "hidden": hidden, "vocabulary": words}


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    guessed = batch.labels != IGNORED
    tokens, following = _outputs(model, batch, guessed)
    loss = functional.cross_entropy(tokens, batch.labels[guessed])
    if (batch.next_label != IGNORED).any():
        loss = loss + functional.cross_entropy(following, batch.next_label, ignore_index=IGNORED)
    return loss


def _measured(model: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Means over tokens and over pairs, and the sum of both losses."""
    sums: dict[str, float] = dict.fromkeys(("masked", "masked_right", "next", "next_right"), 0.0)
    counts = {"masked": 0, "next": 0}
    device = next(model.parameters()).device
    for batch in (batch.to(device) for batch in batches):
        guessed, paired = batch.labels != IGNORED, batch.next_label != IGNORED
        tokens, following = _outputs(model, batch, guessed)
        for name, logits, right in (
            ("masked", tokens, batch.labels[guessed]),
            ("next", following[paired], batch.next_label[paired]),
        ):
            counts[name] += len(right)
            sums[name] += float(functional.cross_entropy(logits, right, reduction="sum"))
            sums[f"{name}_right"] += float((logits.argmax(-1) == right).sum())
    per = {name: max(count, 1) for name, count in counts.items()}
    return {
        "dev_loss": sums["masked"] / per["masked"] + sums["next"] / per["next"],
        "masked_accuracy": sums["masked_right"] / per["masked"],
        "next_accuracy": sums["next_right"] / per["next"],
    }


def _outputs(model: nn.Module, batch: Batch, guessed: Tensor) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = model(
        batch.input_ids, batch.attention_mask, batch.token_type_ids, guessed
    )
    return result


def _fingerprint(corpus: Corpus) -> str:
    """Tells whether the texts are still the same."""
    found = hashlib.sha256()
    for pair in (*corpus.train, Pair("", ""), *corpus.dev):
        found.update(f"{pair.first}\0{pair.second}\1".encode())
    return found.hexdigest()[:12]
