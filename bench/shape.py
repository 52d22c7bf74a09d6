"""What a BERT computes, by its sizes."""

from dataclasses import dataclass
from typing import Final

__all__ = ["MINILM_L12", "Shape"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a BERT that its time depends on."""

    layers: int
    hidden: int
    inner: int

    def flop(self, length: int, *, ours: bool = True) -> float:
        """Multiplications and additions of the products of a pair of so many tokens: linear layers
        and attention.

        Args:
            ours: whether `write_bert` wrote the graph: its last layer computes the first token
                alone, and of the others no more than keys and values.
        """
        keys_and_values = 4 * self.hidden**2
        rest = 4 * self.hidden**2 + 4 * self.hidden * self.inner  # query, output, the two wide ones
        attention = 4 * length * self.hidden
        whole = length * (keys_and_values + rest + attention)
        last = length * keys_and_values + rest + attention if ours else whole
        return float((self.layers - 1) * whole + last)


MINILM_L12: Final = Shape(layers=12, hidden=384, inner=1_536)
