"""MaxSim in torch: each token of a query looks for the token of an item that is most like it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuralrank.models import Checkpoint
from trainer.text import TextModel

__all__ = ["MaxSim"]

Read = dict[str, Tensor]


class MaxSim(nn.Module):
    """scale · (mean over a query's tokens of the best cosine to an item's - offset).

    The mean, and not the sum of the paper: the score then means the same for short and long
    queries, as the targets do. Within one query both order alike.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        """
        Raises:
            InvalidInput: a weight is missing, or has another shape than its neighbours.
        """
        super().__init__()
        self.tokens = TextModel(checkpoint, "tokens", dropout=0.0)
        # As a logarithm, so that a step changes it by a share of what it is.
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, queries: Read, items: Sequence[Read], asked: Sequence[Tensor]) -> Tensor:
        """
        Args:
            queries: what `TextModel` takes, int64 [lists, length], and `counted`, bool alike.
            items: the same, of items in parts.
            asked: for each part the place of its items' queries, int64 [items].

        Returns:
            Scores of the items, [items of all parts].
        """
        found, counted = self._read(queries)
        means = [
            _means(found[places], counted[places], *self._read(part))
            for part, places in zip(items, asked, strict=True)
        ]
        scores: Tensor = self.log_scale.exp() * (torch.cat(means) - self.offset)
        return scores

    def _read(self, tokens: Read) -> tuple[Tensor, Tensor]:
        """Vectors of length 1, float32 [batch, length, width], and which count."""
        inputs = {name: tensor for name, tensor in tokens.items() if name != "counted"}
        return self.tokens(**inputs), tokens["counted"]


def _means(query: Tensor, asks: Tensor, item: Tensor, tells: Tensor) -> Tensor:
    """Mean over each query's tokens of the best cosine to its item's, [items].

    Args:
        query, item: [items, length, width].
        asks, tells: which count, bool [items, length]; of each text at least one.
    """
    # In bf16 a cosine has two digits.
    with torch.autocast(query.device.type, enabled=False):
        cosines = query @ item.transpose(1, 2)  # [items, of the query, of the item]
        best = cosines.masked_fill(~tells.unsqueeze(1), -torch.inf).amax(2)  # [items, query]
        return (best * asks).sum(1) / asks.sum(1)
