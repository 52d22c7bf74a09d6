"""What continual learning must know of a kind of bundle: what is remembered for it, and how a
candidate is compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol

from neuralrank.bundles.candidates import Candidate
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput
from trainer.dataset import Dataset, query_keys
from trainer.evaluation.evaluation import HeldBack, combined, held_back
from trainer.evaluation.scoring import Track
from trainer.gate import JUDGED, Rules, measured
from trainer.personal import gate as personal_gate
from trainer.personal.behaviour import require_held
from trainer.update.memory import Memory
from trainer.update.users import UserMemory

__all__ = ["Kind", "OfTexts", "OfUsers"]

_WAIT: Final = (
    "Wait for more (what this window holds is the next round's too), take a larger --test"
)


class Kind(Protocol):
    """A kind of bundle that learns on."""

    @property
    def memory(self) -> type[Memory]:
        """What is remembered."""

    @property
    def main(self) -> str:
        """The check whose numbers are a round's `before` and `after`."""

    def judged(self, memory: Memory) -> frozenset[str]:
        """Keys of queries that measure this round and later ones, and that none learns from.

        Raises:
            InvalidInput: earlier rounds have learned from all of them.
        """

    def require_kept_back(self, data: Dataset, memory: Memory) -> None:
        """Asked before a training, whose candidate could not be compared.

        Args:
            memory: of earlier rounds. What it was trained on measures nothing.

        Raises:
            InvalidInput: nothing of the data is kept back to measure with.
        """

    def compared(self, ref: str, data: Dataset, memory: Memory, where: str) -> Candidate:
        """Compares a candidate with what serves, and records what was found.

        Args:
            memory: of earlier rounds. What it keeps back measures what was forgotten; what it was
                trained on measures nothing.
            where: the data lies, for the record.

        Raises:
            InvalidInput: nothing of the data is kept back to measure with.
        """


@dataclass(frozen=True)
class OfTexts:
    """A ranker of texts."""

    registry: Registry
    rules: Rules
    track: Track
    # Judgments that measure every round, in the place of the clicks of its own test part.
    judgments: Dataset | None = None
    memory: ClassVar = Memory
    main: ClassVar = JUDGED

    def judged(self, memory: Memory) -> frozenset[str]:
        if self.judgments is None:
            return frozenset()
        dev, test = (query_keys(self.judgments.of("queries", part)) for part in ("dev", "test"))
        left = {key for key in test if not memory.trained_on(key)}
        if test and not left:
            raise InvalidInput(
                f"Earlier rounds have learned from all {len(test):,} queries of the judgments' "
                f"test part ({self.judgments.description.source}), so that none of them measures. "
                "Judge other queries, or begin anew: another --out folder, and a bundle that has "
                "not learned from them."
            )
        return frozenset(left | {key for key in dev if not memory.trained_on(key)})

    def require_kept_back(self, data: Dataset, memory: Memory) -> None:
        self._kept_back(data, memory)

    def compared(self, ref: str, data: Dataset, memory: Memory, where: str) -> Candidate:
        material = self._kept_back(data, memory)
        old = memory.kept_back(data)
        before = _material(old) if old is not None else None
        return measured(self.registry, ref, material, where, self.rules, self.track, before)

    def _kept_back(self, data: Dataset, memory: Memory) -> HeldBack:
        if self.judgments is not None:
            material = combined(data, self.judgments, memory.trained_on)
            what = "queries of the judgments' test part"
            _require(_queries(material), self.rules, what, "Judge more queries")
            return material
        found = _material(data)
        if found is None:
            raise InvalidInput(
                "Nothing of this window is kept back to measure with. Take a larger --test, or "
                "give judgments (--judgments)."
            )
        _require(_queries(found), self.rules, "queries of this window", f"{_WAIT}, judge queries")
        return found


@dataclass(frozen=True)
class OfUsers:
    """A personal ranker."""

    registry: Registry
    rules: Rules
    # The folder where vectors of items are kept.
    cache: Path
    memory: ClassVar = UserMemory
    main: ClassVar = personal_gate.CHOSEN

    def judged(self, memory: Memory) -> frozenset[str]:
        del memory
        return frozenset()

    def require_kept_back(self, data: Dataset, memory: Memory) -> None:
        del memory
        found = require_held(data, "test")
        _require(found, self.rules, "pages and users of this window", _WAIT)

    def compared(self, ref: str, data: Dataset, memory: Memory, where: str) -> Candidate:
        return personal_gate.measured(
            self.registry, ref, data, where, self.rules, self.cache, memory.kept_back(data)
        )


def _require(there: int, rules: Rules, what: str, instead: str) -> None:
    """
    Args:
        there: how many there are to measure with, and `what` they are.
        instead: of a lower --min-queries, what to do.

    Raises:
        InvalidInput: there is less than the gate asks for.
    """
    if there < rules.min_queries:
        raise InvalidInput(
            f"{there:,} {what} can be measured with; --min-queries asks for {rules.min_queries:,}. "
            f"{instead}, or give a lower --min-queries."
        )


def _queries(material: HeldBack) -> int:
    return len(material.judged.labels) if material.judged is not None else 0


def _material(data: Dataset) -> HeldBack | None:
    """What is kept back; None where that is nothing, or of one class only."""
    try:
        return held_back(data)
    except InvalidInput:
        return None
