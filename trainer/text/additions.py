"""Small trained parts in a frozen BERT that its graph can hold too (`neuralrank.models.bert`).

peft has neither for encoders: its prefix-tuning needs a decoder's cache, and it has no bottlenecks.
"""

import torch
from torch import Tensor, nn

__all__ = ["INNER", "add_bottlenecks", "add_prefixes"]

# Under this name lies what was there before.
INNER = "inner"


class _Prefix(nn.Module):
    def __init__(self, heads: int, positions: int, size: int) -> None:
        super().__init__()
        self.key = nn.Parameter(torch.empty(heads, positions, size))
        self.value = nn.Parameter(torch.empty(heads, positions, size))


class _Prefixed(nn.Module):
    """Self-attention that also sees trained positions before the text.

    Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (2021), with keys
    and values trained directly.
    """

    def __init__(self, inner: nn.Module, positions: int) -> None:
        super().__init__()
        self.inner = inner
        heads, size = inner.num_attention_heads, inner.attention_head_size
        self.prefix = _Prefix(heads, positions, size)
        # A key of zeros takes the weight of an average token, a value of zeros adds nothing.
        nn.init.normal_(self.prefix.key, std=0.02)
        nn.init.normal_(self.prefix.value, std=0.02)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> tuple[Tensor, None]:
        """hidden_states [batch, length, hidden]; the mask is what transformers makes of its own:
        none, or [batch, 1, length or 1, length], bool or added to the scores."""
        inner = self.inner
        batch, length, _ = hidden_states.shape
        heads = (batch, length, inner.num_attention_heads, inner.attention_head_size)
        query, key, value = (
            part(hidden_states).view(heads).transpose(1, 2)  # [batch, heads, length, size]
            for part in (inner.query, inner.key, inner.value)
        )
        key = torch.cat([self.prefix.key.expand(batch, -1, -1, -1).to(key.dtype), key], dim=2)
        value = torch.cat(
            [self.prefix.value.expand(batch, -1, -1, -1).to(value.dtype), value], dim=2
        )
        if attention_mask is not None:
            seen = True if attention_mask.dtype == torch.bool else 0.0
            positions = self.prefix.key.shape[1]
            attention_mask = nn.functional.pad(attention_mask, (positions, 0), value=seen)
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            dropout_p=inner.dropout.p if self.training else 0.0,
        )
        return mixed.transpose(1, 2).reshape(batch, length, -1), None


class _Bottleneck(nn.Module):
    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        # At first it adds nothing.
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        up: Tensor = self.up(nn.functional.gelu(self.down(x)))
        return up


class _Adapted(nn.Module):
    """A linear layer with a bottleneck behind it.

    Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (2019).
    """

    def __init__(self, inner: nn.Linear, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = _Bottleneck(inner.out_features, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y + self.adapter(y)


def add_prefixes(bert: nn.Module, positions: int) -> None:
    """Gives every layer's self-attention a prefix of so many positions, to be trained; one that is
    there already stays, as long as it is."""
    for layer in bert.encoder.layer:
        if not isinstance(layer.attention.self, _Prefixed):
            layer.attention.self = _Prefixed(layer.attention.self, positions)
        layer.attention.self.prefix.requires_grad_(True)


def add_bottlenecks(bert: nn.Module, width: int) -> None:
    """Puts a bottleneck behind both outputs of every layer, to be trained; one that is there
    already stays, as wide as it is."""
    for layer in bert.encoder.layer:
        for output in (layer.attention.output, layer.output):
            if not isinstance(output.dense, _Adapted):
                output.dense = _Adapted(output.dense, width)
            output.dense.adapter.requires_grad_(True)
