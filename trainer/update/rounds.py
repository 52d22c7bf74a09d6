"""One round of continual learning, and one after another."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from neuralrank.bundles.candidates import Candidate
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidInput, NeuralrankError, NotFound
from trainer.dataset import Dataset
from trainer.dataset.checks import milliseconds
from trainer.gate import FORGOTTEN, promoted
from trainer.update.kinds import Kind
from trainer.update.memory import Memory
from trainer.update.state import Open, Round, State, locked, read_state, write_state
from trainer.update.window import Window

__all__ = ["Learner", "Options", "Stages"]

_DATASET: Final = "dataset.json"
# Behind the name of a round's folder: left for a person to look at, and on its way out.
_FAILED: Final = ".failed"
_LEFT: Final = ".left"


class Stages(Protocol):
    """What a round is made of, besides remembering and comparing. Each may be called again for the
    same folder after it was interrupted, and then goes on."""

    def pull(self, window: Window, folder: Path) -> Mapping[str, int] | None:
        """Brings the logs of a window to a folder; counts, or None for no events."""

    def dataset(self, logs: Path, folder: Path) -> None:
        """Makes a dataset of logs."""

    def train(self, dataset: Path, parent: str, folder: Path) -> str:
        """Fine-tunes a bundle and publishes what comes of it as a candidate; its name@hash."""


@dataclass(frozen=True)
class Options:
    """How to learn on.

    Raises:
        InvalidInput: a number is outside its range.
    """

    # Share of the train examples that are remembered ones. More: less is forgotten, and less new is
    # learned.
    replay: float = 0.5
    # The most queries (users, for a personal ranker) that are remembered, of train parts and of
    # test parts.
    memory: int = 5_000
    # Whether a candidate that passes is put into service.
    promote: bool = True
    # Folders of rounds that stay.
    keep: int = 3
    # Seconds before the present at which a round ends: so long, what comes of a page is waited for.
    lag: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise InvalidInput(f"--replay got {self.replay:g}; allowed is 0 to below 1.")
        if self.memory < 1 or self.keep < 1:
            raise InvalidInput(
                f"--memory got {self.memory}, --keep {self.keep}; allowed is 1 or more."
            )


@dataclass(frozen=True)
class Learner:
    """Learns on what arrives, for the bundles of one name."""

    # Where it stands (`trainer.update.state`).
    folder: Path
    # Of the bundles. What serves under it is trained from, and compared with.
    name: str
    # Where the first round begins, ISO 8601; later ones begin where the last ended.
    since: str
    stages: Stages
    registry: Registry
    kind: Kind
    options: Options

    def run(
        self,
        every: float = 0.0,
        *,
        done: Callable[[Round], None] = lambda _: None,
        failed: Callable[[NeuralrankError], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """One round, or one every so many seconds until it is interrupted.

        On a schedule, a round that fails is said and tried again at its next time, from where it
        stopped: OpenSearch may be down, or nobody may have clicked yet.

        Args:
            every: from the beginning of one round to that of the next; 0: one round.
            done, failed: are told of each round, or why it failed.

        Raises:
            NeuralrankError: the round failed, and it was the only one.
            KeyboardInterrupt: it was interrupted; the same call goes on.
        """
        with locked(self.folder):
            while True:
                begun = now()
                try:
                    done(self.round(begun))
                except NeuralrankError as error:
                    if not every:
                        raise
                    failed(error)
                if not every:
                    return
                sleep(max(0.0, every - (now() - begun).total_seconds()))

    def round(self, now: datetime) -> Round:
        """Pull, dataset, replay, training, gate. It goes on where it was interrupted.

        Raises:
            InvalidInput: the folder learns another name, or a stage can't use what there is.
            NotFound: nothing serves under this name, or what this round began with is gone.
        """
        state = read_state(self.folder) or State(name=self.name, until=self.since)
        if state.name != self.name:
            raise InvalidInput(
                f"{self.folder} learns {state.name!r}, not {self.name!r}. Name another --out "
                "folder."
            )
        current = state.current or Open(
            number=state.rounds[-1].number + 1 if state.rounds else 1,
            since=state.until,
            until=(now - timedelta(seconds=self.options.lag)).isoformat(),
            seen=now.isoformat(),
            parent=self.registry.resolve(self.name),
        )
        result = Round(
            number=current.number,
            outcome="nothing",
            since=current.since,
            until=current.until,
            parent=current.parent,
            reason="No events in the window.",
        )
        work = self._work(current.number)
        if milliseconds(current.since, "since") >= milliseconds(current.until, "until"):
            return result  # all that there is may still go on
        write_state(self.folder, state.model_copy(update={"current": current}))
        before = self._work(state.rounds[-1].number) / "logs" if state.rounds else None
        seen = current.seen or current.until  # "": of an earlier version
        window = Window(current.since, current.until, seen, before)
        try:
            counts = self.stages.pull(window, work / "logs")
        except InvalidInput:  # the same window can't be had any more
            self._leave_window(state, work)
            raise
        if counts is None:
            self._leave_window(state, work)
            return result
        kept = self.kind.memory
        memory = kept.open(self._work(state.learned.number)) if state.learned else kept()
        try:
            memory = replace(memory, judged=self.kind.judged(memory))
            if not (work / "data" / _DATASET).is_file():
                self.stages.dataset(work / "logs", work / "new")
                new = Dataset.open(work / "new")
                memory.mixed(new, self.options.replay).write(work / "data")
            data = Dataset.open(work / "data")
            # Else a quiet shop would have a training and a candidate of each round, for nothing.
            self.kind.require_kept_back(data, memory)
            ref = self.stages.train(work / "data", current.parent, work / "run")
            found = self._compared(ref, data, memory, work / "data")
        except (InvalidInput, NotFound):
            # Too little happened to learn from, or to measure with. Or the bundle that this round
            # began with is gone, or its encoder: the next one begins with what serves then.
            self._leave_window(state, work, kept=True)
            raise
        serves = self.registry.resolve(self.name) == ref
        if found.outcome == "passed" and self.options.promote and not serves:
            promoted(self.registry, ref, found)
            serves = True
        memory.after(data, self.options.memory).write(work)
        by_name = {check.name: check for check in found.checks}
        judged, forgotten = by_name.get(self.kind.main), by_name.get(FORGOTTEN)
        result = result.model_copy(
            update={
                "outcome": "promoted" if serves else "candidate",
                "candidate": ref,
                "reason": found.reason,
                "counts": {**counts, **_learned(work, data, memory)},
                "before": judged.serving if judged else None,
                "after": judged.candidate if judged else None,
                "old_before": forgotten.serving if forgotten else None,
                "old_after": forgotten.candidate if forgotten else None,
            }
        )
        rounds = (*state.rounds, result)
        write_state(self.folder, State(name=self.name, until=current.until, rounds=rounds))
        for number in range(1, current.number - self.options.keep + 1):
            for suffix in ("", _FAILED, _LEFT):
                shutil.rmtree(f"{self._work(number)}{suffix}", ignore_errors=True)
        return result

    def _work(self, number: int) -> Path:
        return self.folder / "rounds" / f"{number:04}"

    def _leave_window(self, state: State, work: Path, *, kept: bool = False) -> None:
        """The next round takes this window too: what came late is not lost. A folder that is kept,
        for a person to look at, is named `….failed`, in the place of the one before.

        The folder goes first and in one step: a round that is begun with the state finds nothing of
        another window there, wherever this is interrupted.
        """
        left = work.with_name(work.name + (_FAILED if kept else _LEFT))
        shutil.rmtree(left, ignore_errors=True)
        if work.exists():
            work.rename(left)
        write_state(self.folder, state.model_copy(update={"current": None}))
        if not kept:
            shutil.rmtree(left, ignore_errors=True)

    def _compared(self, ref: str, data: Dataset, memory: Memory, where: Path) -> Candidate:
        if self.registry.resolve(self.name) == ref:
            # It was interrupted right after the promotion, or training has changed nothing.
            return self.registry.candidate(ref) or Candidate(reason="It is what served before.")
        return self.kind.compared(ref, data, memory, str(where))


def _learned(work: Path, data: Dataset, memory: Memory) -> dict[str, int]:
    """How many examples it was trained on, and how many of them were remembered ones."""
    new = set(memory.examples(Dataset.open(work / "new")))
    examples = memory.examples(data)
    return {
        "train examples": len(examples),
        "remembered examples": sum(name not in new for name in examples),
    }
