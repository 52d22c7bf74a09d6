"""SASRec: the next item by self-attention over the ones before it.

Kang and McAuley, "Self-Attentive Sequential Recommendation" (2018), with a softmax over many
sampled negatives in place of one negative with binary cross-entropy: that alone makes it far
stronger (Klenitskiy and Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better than
SASRec?", 2023; Petrov and Macdonald, "gSASRec", 2023).

It is a baseline, and one of the sources that the personal ranker takes candidates from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainer.loop import Rows, Task, TrainingOptions, train
from trainer.next_items.buckets import Buckets, padded
from trainer.next_items.measure import Scores, guess
from trainer.personal.sequences import Histories

__all__ = [
    "READS", "Sasrec", "SequenceModel", "SequenceOptions", "next_item_loss", "train_sasrec",
]  # fmt: skip

# How histories are read, for what is kept: weights that have learned to look at padding are others.
READS: Final = "padded behind"
_DEV_USERS: Final = 1_000


@dataclass(frozen=True)
class SequenceOptions:
    """Size and training of the sequence model."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    # Events of a history that are read: the last ones.
    length: int = 50
    # Sampled for each batch and shared by all of its positions.
    negatives: int = 1024
    # Places of histories in a batch.
    positions: int = 1024
    epochs: int = 18
    learning_rate: float = 3e-3
    # On all of the histories, after the epochs without the last items; at a third of the rate.
    final_epochs: int = 4
    seed: int = 0


class SequenceModel(nn.Module):
    """Causal transformer over item embeddings; input and output share the embeddings.

    In comments b is users, l positions, d width, n items.
    """

    def __init__(self, items: int, options: SequenceOptions) -> None:
        super().__init__()
        self.items, self.width = items, options.width
        # One row more, for padding.
        self.item = nn.Embedding(items + 1, options.width, padding_idx=items)
        # By distance from the newest: 0 is the newest itself, however many are before it.
        self.place = nn.Embedding(options.length, options.width)
        nn.init.normal_(self.item.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            options.width, options.heads, 4 * options.width, options.dropout,
            activation="gelu", batch_first=True, norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, options.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(options.width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [b, l], padded behind with `items` → what comes after each place, [b, l, d]."""
        length = rows.shape[1]
        later = self.lengths(rows)[:, None] - 1 - torch.arange(length, device=rows.device)  # [b, l]
        places = self.place(later.clamp(min=0))
        hidden = self.dropout(self.item(rows) * math.sqrt(self.width) + places)
        # No place looks at later ones, so none looks at padding.
        causal = torch.ones(length, length, dtype=torch.bool, device=rows.device).triu(1)
        return self.norm(self.layers(hidden, mask=causal, is_causal=True))

    def lengths(self, rows: Tensor) -> Tensor:
        """Without padding, int64 [b]."""
        return (rows != self.items).sum(dim=1)


def next_item_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Softmax cross-entropy of the next item against sampled ones.

    Requirements: `weights` of a tied embedding. The sampled logits are raised by log(items /
    sample), so that they stand for all items; one that is the next item itself is left out.
    """
    rows, negatives = batch["rows"], batch["negatives"]
    inner = model.module if hasattr(model, "module") else model
    items = inner.items
    after = rows[:, 1:]
    known = after != items
    # The last item of each is only guessed: what comes before it is read as if it were the newest.
    before = rows[:, :-1].masked_fill(~known, items)
    hidden, target = model(before)[known], after[known]  # [positions, d], [positions]
    table = inner.item.weight
    own = (hidden * table[target]).sum(-1, keepdim=True)
    others = hidden @ table[negatives].T + math.log(items / len(negatives))
    others = others.masked_fill(negatives[None, :] == target[:, None], -math.inf)
    logits = torch.cat([own, others], dim=1)
    return functional.cross_entropy(logits, torch.zeros_like(target))


@dataclass(frozen=True)
class Sasrec:
    """A trained sequence model as a system."""

    model: SequenceModel
    length: int

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """Of the items, float32 [items, width], of length 1."""
        table: NDArray[np.float32] = self.model.item.weight[: self.model.items].detach().numpy()
        return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)

    def scores(self, histories: Histories, places: Sequence[int]) -> Scores:
        read = [histories.rows[at] for at in places]
        rows = torch.from_numpy(padded(read, self.length, self.model.items, behind=True))
        with torch.no_grad():
            # Only the newest place of each is asked.
            newest = self.model.lengths(rows).clamp(min=1) - 1
            hidden = self.model.eval()(rows)[torch.arange(len(rows)), newest]  # [b, d]
            logits: Scores = (hidden @ self.model.item.weight[: self.model.items].T).numpy()
        return logits


def train_sasrec(
    histories: Histories, options: SequenceOptions, out: Path, *, exclude_seen: bool
) -> tuple[Sasrec, Sasrec]:
    """Trains, or goes on; a second call for the same folder only loads.

    Args:
        exclude_seen: as it is measured: whether what a user has had is never the answer.

    Returns:
        One that has not seen the last items (made without them, stopped by some of them), and that
        one trained further on all.
    """
    earlier, last = histories.without_last()
    torch.manual_seed(options.seed)
    model = SequenceModel(len(histories.items), options)
    users = np.random.default_rng(options.seed).permutation(len(last))[:_DEV_USERS]

    def evaluate(_: nn.Module) -> dict[str, float]:
        system = Sasrec(model, options.length)
        guessed = guess(system, earlier, users.tolist(), last[users], exclude_seen=exclude_seen)
        return guessed.summary()

    _run(model, earlier, options, out / "earlier", evaluate)
    blind = SequenceModel(model.items, options)
    blind.load_state_dict(model.state_dict())
    # All is trained on now, and the metric only says that nothing broke: it rises with what is
    # learned by heart, so that the last weights are the best.
    further = replace(options, epochs=options.final_epochs, learning_rate=options.learning_rate / 3)
    _run(model, histories, further, out / "all", evaluate)
    return Sasrec(blind, options.length), Sasrec(model, options.length)


def _run(
    model: SequenceModel,
    histories: Histories,
    options: SequenceOptions,
    out: Path,
    evaluate: Callable[[nn.Module], dict[str, float]],
) -> None:
    rows = [row for row in histories.rows if len(row) > 1]
    lengths = [min(len(row), options.length + 1) for row in rows]
    buckets = Buckets.of(lengths, options.positions, options.seed)

    def batch(numbers: Rows, random: np.random.Generator) -> dict[str, Tensor]:
        users = np.concatenate([buckets.groups[number] for number in numbers])
        cut = [rows[user] for user in users]
        read = padded(cut, options.length + 1, model.items, behind=True)
        negatives = random.integers(0, model.items, options.negatives)
        return {"rows": torch.from_numpy(read), "negatives": torch.from_numpy(negatives)}

    task = Task(
        identity={"histories": histories.hash, **asdict(options)},
        model=model,
        examples=len(buckets.groups),
        batch=batch,
        loss=next_item_loss,
        evaluate=evaluate,
        metric="nDCG@10",
    )
    # One example is a batch: users of near lengths.
    train(
        task,
        TrainingOptions(
            out, epochs=options.epochs, batch_size=1, learning_rate=options.learning_rate,
            weight_decay=0.0, warmup=0.05, patience=0, seed=options.seed, track="none",
            every_steps=len(buckets.groups), keep=1,
        ),
    )  # fmt: skip
