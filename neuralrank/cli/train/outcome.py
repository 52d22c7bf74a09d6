"""How a training ends: its bundle is published, or only made, and every command says so alike."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.console import plain_console

if TYPE_CHECKING:
    from trainer.loop import Outcome
    from trainer.loop.trials import Found

__all__ = ["Made", "searched", "show_outcome", "show_trials"]


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


def searched(found: "Found | None") -> dict[str, Any]:
    """What a search of options came to, for `--json`; without one there is nothing."""
    return found.json() if found else {"chosen": {}, "trials": []}


def show_trials(found: "Found | None") -> None:
    """Every trial of a search with what it came to, as a table; nothing where there was none."""
    if found is None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *found.chosen, f"dev {found.metric}", ""):
        table.add_column(name, justify="left" if name in ("trial", "") else "right")
    for trial in found.trials:
        value = "diverged" if trial.value is None else f"{trial.value:.4f}"
        options = (f"{trial.options[name]:.3g}" for name in found.chosen)
        best = "best" if trial.folder == found.best.folder else ""
        table.add_row(trial.folder.name, *options, value, best)
    plain_console().print(table, highlight=False)


def show_outcome(
    outcome: "Outcome",
    found: "Found | None",
    made: Made,
    *,
    first: Iterable[tuple[str, str]] = (),
    then: Iterable[tuple[str, str]] = (),
) -> None:
    """What a training came to, as a table; before it, that of the trials.

    Args:
        found: what the search of `--trials` came to.
        first: rows of what it learned from.
        then: rows of what else was measured.
    """
    show_trials(found)
    table = Table(box=None, show_header=False, pad_edge=False)
    early = ", stopped early" if outcome.stopped_early else ""
    rows = [
        *first,
        ("steps", f"{outcome.steps:,} (best: {outcome.best_step:,}{early})"),
        *(
            (f"dev {metric}", f"{outcome.before[metric]:.4f} → {value:.4f}")
            for metric, value in outcome.best.items()
        ),
        *((option, f"{value:.3g}") for option, value in (found.chosen if found else {}).items()),
        *then,
        ("time", f"{outcome.seconds:,.1f} s"),
        (made.role, made.bundle.ref),
    ]
    for row in rows:
        table.add_row(*row)
    plain_console().print(table, highlight=False)
