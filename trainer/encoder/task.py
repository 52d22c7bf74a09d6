"""Fine-tuning of the bi-encoder as a task of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from neuralrank.text.exclusions import as_read
from neuralrank.text.tokens import Tokens
from trainer.encoder.examples import Examples
from trainer.encoder.loss import matryoshka
from trainer.encoder.search import Search, measured
from trainer.loop import Rows, Task
from trainer.text.methods import Adapted
from trainer.text.reading import Reader
from trainer.text.scoring import run

__all__ = ["METRIC", "Contrast", "contrastive"]

METRIC: Final = "nDCG@10"


@dataclass(frozen=True)
class Contrast:
    """What the loss is made of."""

    # Cosines are divided by it: the lower, the more the hardest negatives count. E5 was made with
    # 0.01, from which cosines lie close together; 0.05 is milder.
    temperature: float = 0.05
    # Judged negatives for each pair, beside the right items of others.
    negatives: int = 2
    # Lengths of vector that shall serve, longest first: the whole one; () for that alone.
    dimensions: tuple[int, ...] = ()


class _Texts:
    """Tokens of the queries and items, each made once."""

    def __init__(self, reader: Reader, queries: Sequence[str], items: Sequence[str],
                 prefixes: tuple[str, str]) -> None:  # fmt: skip
        asked = [as_read(query) for query in queries]
        self.queries: list[Tokens] = reader.whole(asked, prefixes[0])
        self.items: list[Tokens] = reader.whole(items, prefixes[1])


def contrastive(
    adapted: Adapted,
    reader: Reader,
    prefixes: tuple[str, str],
    train: Examples,
    dev: Search,
    contrast: Contrast,
    identity: Mapping[str, Any],
) -> Task:
    """The task. Early stopping follows nDCG@10 of exact search in the dev part.

    With several processes each has the negatives of its own share of the batch.

    Args:
        prefixes: before a query and before an item.
    """
    texts = _Texts(reader, train.query_texts, train.item_texts, prefixes)
    asked = _Texts(reader, dev.query_texts, dev.item_texts, prefixes)

    def batch(rows: Rows, random: np.random.Generator) -> dict[str, Any]:
        chosen = train.batch(rows, contrast.negatives, random)
        # One forward pass for all, as several processes can be trained with.
        inputs = [texts.queries[place] for place in chosen.queries.tolist()]
        inputs += [texts.items[place] for place in chosen.items.tolist()]
        return {
            "inputs": Reader.tensors(inputs),
            "positives": torch.from_numpy(chosen.positives),
            "allowed": torch.from_numpy(chosen.allowed),
            "weights": torch.from_numpy(np.array(chosen.weights)),
        }

    def loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        vectors = model(**batch["inputs"])  # [q + n, d]
        count = len(batch["positives"])
        found = matryoshka(
            vectors[:count],
            vectors[count:],
            batch["positives"],
            batch["allowed"],
            contrast.temperature,
            batch["weights"],
            contrast.dimensions or (vectors.shape[1],),
        )
        return found + adapted.penalty()

    def evaluate(model: nn.Module) -> dict[str, float]:
        queries, items = run(model, asked.queries), run(model, asked.items)
        return measured(dev, queries, items, contrast.dimensions)

    return Task(
        identity=identity,
        model=adapted.model,
        examples=len(train),
        batch=batch,
        loss=loss,
        evaluate=evaluate,
        metric=METRIC,
        describe=lambda row: repr(train.query_texts[train.query[row]][:40]),
        extra=adapted.extra,
    )
