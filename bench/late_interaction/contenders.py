"""What is compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neuralrank.encoders.cross_encoder import CrossEncoder
from trainer.recipes.late_interaction.serving import Kept, LateInteraction

__all__ = ["KEPT", "SMALL", "Contenders", "late_name"]

SMALL: Final = "neuralrank-small"
# How token vectors are stored.
KEPT: Final[tuple[Kept, ...]] = ("float16", "int8")


@dataclass(frozen=True)
class Contenders:
    """Cross-encoders by name, SMALL among them, and late interaction."""

    models: Mapping[str, CrossEncoder]
    late: LateInteraction


def late_name(kept: Kept) -> str:
    return f"late interaction, {kept}"
