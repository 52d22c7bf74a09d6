"""Several systems on the same next items: made, kept for the next time, measured, compared.

What is learned hangs on catalogue, encoder, histories and options alone, never on the targets; so
it is kept under their hash, and the same histories with other targets are measured without
training.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_model, save_model

from neuralrank.errors import InvalidInput
from neuralrank.files.whole import whole_file
from trainer.next_items.baselines import (
    FACTORISATIONS,
    Factors,
    Neighbours,
    NeighbourSettings,
    Popularity,
    factors,
    neighbours,
    tuned_neighbours,
)
from trainer.next_items.candidates import FEATURES, Sources, centred
from trainer.next_items.measure import Guessed, System, difference, guess
from trainer.next_items.neural import (
    Neural,
    NeuralOptions,
    chosen_lists,
    ranker,
    train_ranker,
)
from trainer.next_items.sasrec import READS, Sasrec, SequenceOptions, train_sasrec
from trainer.personal.sequences import UNKNOWN, Histories, Numbers
from trainer.personal.statistics import PAIR_FEATURES, ItemStatistics

__all__ = ["SYSTEMS", "Comparison", "Content", "Options", "Watcher", "compare"]

SYSTEMS: Final = ("popularity", "item_knn", "matrix_factorisation", "sasrec", "neuralrank")
_OWN: Final = "neuralrank"
# With fewer repeats than this among last items, what a user has had is no answer for any system.
_FEW_REPEATS: Final = 0.005

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """How the systems that learn are made."""

    sequence: SequenceOptions = field(default_factory=SequenceOptions)
    neural: NeuralOptions = field(default_factory=NeuralOptions)
    factorisations: tuple[tuple[str, int, float], ...] = FACTORISATIONS


@dataclass(frozen=True)
class Content:
    """What the items are, by themselves."""

    # Of the encoder and of all that it read.
    digest: str
    # float32 [items, d].
    vectors: Floats


class Watcher(Protocol):
    """Is told what goes on."""

    def say(self, text: str) -> None: ...

    def bar(self, text: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Shows how much of something is done; what it gives is called with what was added."""


@dataclass(frozen=True)
class Comparison:
    """Metrics by system, and how the own one differs from the best of the others."""

    systems: Mapping[str, Guessed]

    def json(self) -> dict[str, Any]:
        """As `neuralrank evaluate personal --json` prints it."""
        users = len(next(iter(self.systems.values())).hit)
        return {
            "systems": {name: guessed.summary() for name, guessed in self.systems.items()},
            "users": users,
        }

    def best_other(self) -> str | None:
        """The name of the best baseline by nDCG@10; None where there is nothing to compare."""
        others = [name for name in self.systems if name != _OWN]
        if _OWN not in self.systems or not others:
            return None
        return max(others, key=lambda name: float(self.systems[name].ndcg.mean()))

    def margin(self) -> dict[str, Any]:
        """By how much the own system is better than the best baseline; empty where none is."""
        other = self.best_other()
        if other is None:
            return {}
        found = difference(self.systems[_OWN], self.systems[other])
        return {"baseline": other, **{name: asdict(one) for name, one in found.items()}}


def compare(
    histories: Histories,
    content: Callable[[], Content],
    places: Sequence[int],
    targets: Numbers,
    chosen: Sequence[str],
    folder: Path,
    watcher: Watcher,
    options: Options | None = None,
) -> Comparison:
    """Makes the systems, or loads them, and measures them.

    Args:
        content: of the items; only asked where a system needs it.
        places: of the users; UNKNOWN: without a history.
        targets: int64 [users], their next items; UNKNOWN: not in the catalogue.
        chosen: of SYSTEMS.
        folder: what was learned from the histories is kept here.

    Raises:
        InvalidInput: a system is unknown.
    """
    unknown = [name for name in chosen if name not in SYSTEMS]
    if unknown or not chosen:
        raise InvalidInput(f"Got the system {unknown or ''}; allowed are {', '.join(SYSTEMS)}.")
    repeats = histories.repeats()
    exclude_seen = repeats < _FEW_REPEATS
    watcher.say(
        f"{repeats:.1%} of users end on an item that they had before: such items are "
        f"{'no answer, for any system' if exclude_seen else 'answers like others'}."
    )
    had = exclude_seen and sum(
        place != UNKNOWN and item in histories.rows[place]
        for place, item in zip(places, targets.tolist(), strict=True)
    )
    if had:
        watcher.say(
            f"{had:,} of {len(places):,} targets are items that their users had before: these are "
            "no answer, as hardly any history repeats one, and a miss for every system."
        )
    made = _Made(
        histories, content, folder / histories.hash, watcher, options or Options(), exclude_seen
    )
    measured: dict[str, Guessed] = {}
    for name in chosen:
        system = made.system(name)
        with watcher.bar(f"{name}: users", len(places)) as advance:
            measured[name] = guess(
                system, histories, places, targets, exclude_seen=exclude_seen, progress=advance
            )
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in measured[name].summary().items())
        watcher.say(f"{name}: {numbers}")
    return Comparison(measured)


@dataclass(frozen=True)
class _Made:
    """Makes each system once, from a folder where it was made before."""

    histories: Histories
    content: Callable[[], Content]
    folder: Path
    watcher: Watcher
    options: Options
    exclude_seen: bool

    def system(self, name: str) -> System:
        systems: dict[str, Callable[[], System]] = {
            "popularity": Popularity,
            "item_knn": self._neighbours,
            "matrix_factorisation": self._factors,
            "sasrec": lambda: self._sequence[1],
            "neuralrank": self._neural,
        }
        return systems[name]()

    @cached_property
    def _statistics(self) -> ItemStatistics:
        return ItemStatistics.of(self.histories)

    @cached_property
    def _sequence(self) -> tuple[Sasrec, Sasrec]:
        options = self.options.sequence
        out = self.folder / f"sasrec-{_digest(options, READS)}"
        self.watcher.say(f"sasrec: in {out}")
        return train_sasrec(self.histories, options, out, exclude_seen=self.exclude_seen)

    def _neighbours(self) -> Neighbours:
        file = self.folder / "item_knn.json"
        if file.is_file():
            try:
                settings = NeighbourSettings(**json.loads(file.read_text()))
            except (ValueError, TypeError) as error:
                raise _damaged(file, error) from error
        else:
            self.watcher.say("item_knn: comparing settings on the last items of the histories")
            settings = tuned_neighbours(self.histories, exclude_seen=self.exclude_seen)
            with whole_file(file) as unfinished:
                unfinished.write_text(json.dumps(asdict(settings)))
        self.watcher.say(f"item_knn: {settings}")
        return neighbours(self._statistics, settings)

    def _factors(self) -> Factors:
        file = self.folder / "factors.safetensors"
        if file.is_file():
            try:
                return Factors(**load_file(file))
            except (SafetensorError, TypeError) as error:
                raise _damaged(file, error) from error
        made = factors(
            self.histories, self.watcher.say, self.options.factorisations,
            exclude_seen=self.exclude_seen,
        )  # fmt: skip
        with whole_file(file) as unfinished:
            save_file({"users": made.users, "items": made.items}, unfinished)
        return made

    def _neural(self) -> Neural:
        options = self.options.neural
        blind, sequence = self._sequence
        content = self.content()
        # A version that reads other columns makes its own.
        read = " ".join((content.digest, READS, *FEATURES, *PAIR_FEATURES))
        name = f"neuralrank-{_digest((options, self.options.sequence), read)}"
        file = self.folder / f"{name}.safetensors"
        vectors = centred(content.vectors)
        full = Sources(self.histories, self._statistics, vectors, sequence, self.exclude_seen)
        model = ranker(vectors.shape[1], options)
        if file.is_file():
            try:
                load_model(model, file)
            except (SafetensorError, RuntimeError) as error:
                raise _damaged(file, error) from error
            return Neural(model, full, options)
        self.watcher.say("neuralrank: statistics without the last items")
        earlier, _ = self.histories.without_last()
        before = Sources(earlier, ItemStatistics.of(earlier), vectors, blind, self.exclude_seen)
        users = min(options.users, len(earlier.rows))
        with self.watcher.bar("neuralrank: candidates of users", users) as advance:
            lists = chosen_lists(before, self.histories, options, advance)
        train_ranker(model, lists, self.folder / name, content.digest)
        with whole_file(file) as unfinished:
            save_model(model, str(unfinished))
        return Neural(model, full, options)


def _damaged(file: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{file} can't be read ({error}). Delete it, and it is made anew.")


def _digest(options: Any, content: str = "") -> str:
    """Of options, and of content where it is read; what was made with others lies in another
    folder."""
    parts = options if isinstance(options, tuple) else (options,)
    text = json.dumps([asdict(part) for part in parts], sort_keys=True) + content
    return hashlib.sha256(text.encode()).hexdigest()[:8]
