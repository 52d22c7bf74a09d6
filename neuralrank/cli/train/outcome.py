"""How a training ends: its bundle is published, or only made, and every command says so alike."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.console import plain_console

if TYPE_CHECKING:
    from trainer.loop import Outcome

__all__ = ["Made", "show_outcome"]


@dataclass(frozen=True, slots=True)
class Made:
    """The bundle of a training, and what became of it."""

    bundle: Bundle
    # "made" (it lies in the run's folder only), "candidate" or "in service".
    role: str

    @classmethod
    def of(cls, bundle: Bundle, registry: Registry, *, publish: bool) -> "Made":
        """Publishes it as a candidate where that is wanted; the first of all serves at once."""
        if not publish:
            return cls(bundle, "made")
        published = registry.publish(bundle, candidate=True)
        return cls(published, "in service" if registry.serves(published.ref) else "candidate")

    @property
    def published(self) -> bool:
        return self.role != "made"

    def json(self) -> dict[str, Any]:
        return {"ref": self.bundle.ref, "published": self.published}

    def next_step(self) -> None:
        """How a candidate comes into service, to stderr."""
        if self.role == "candidate":
            command = f"neuralrank models promote {self.bundle.ref} --dataset DATASET"
            print(f"Into service, if it is better: {command}", file=sys.stderr)


def show_outcome(
    outcome: "Outcome",
    chosen: Mapping[str, float],
    made: Made,
    *,
    first: Iterable[tuple[str, str]] = (),
    then: Iterable[tuple[str, str]] = (),
) -> None:
    """What a training came to, as a table.

    Args:
        chosen: by the search of `--trials`.
        first: rows of what it learned from.
        then: rows of what else was measured.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    early = ", stopped early" if outcome.stopped_early else ""
    rows = [
        *first,
        ("steps", f"{outcome.steps:,} (best: {outcome.best_step:,}{early})"),
        *(
            (f"dev {metric}", f"{outcome.before[metric]:.4f} → {value:.4f}")
            for metric, value in outcome.best.items()
        ),
        *((option, f"{value:.3g}") for option, value in chosen.items()),
        *then,
        ("time", f"{outcome.seconds:,.1f} s"),
        (made.role, made.bundle.ref),
    ]
    for row in rows:
        table.add_row(*row)
    plain_console().print(table, highlight=False)
