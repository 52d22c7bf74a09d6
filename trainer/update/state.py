"""Where continual learning stands, on disk.

    state.json        `State`: the rounds that were made, and the one that is under way
    rounds/0001/      of each round: logs/, new/ (their dataset), data/ (with what is remembered),
                      run/ (the training), replay/ and old/ (what is remembered afterwards)

`state.json` is the only word on what is done: a round that was interrupted goes on in its folder,
for the same window.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidInput, Overloaded, Unsupported
from neuralrank.files.exclusive import exclusive
from neuralrank.files.whole import write_whole
from neuralrank.validation import first_problem

__all__ = ["Open", "Round", "State", "locked", "read_state", "write_state"]

_STATE = "state.json"
# nothing: nobody did anything. candidate: what was trained stays one. promoted: it serves.
Outcome = Literal["nothing", "candidate", "promoted"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Round(_Model):
    """One round, done."""

    number: Annotated[int, Field(ge=1)]
    outcome: Outcome
    # The window, ISO 8601 in UTC.
    since: str
    until: str
    # name@hash of what was trained from, and of what came of it.
    parent: str = ""
    candidate: str = ""
    # Why it serves, or does not.
    reason: str = ""
    counts: dict[str, int] = {}
    # nDCG@10 on held-back judgments and on old test parts: of the bundle in service, and of the
    # candidate. None: there is nothing to measure it with.
    before: float | None = None
    after: float | None = None
    old_before: float | None = None
    old_after: float | None = None

    @property
    def forgotten(self) -> float | None:
        """How much of nDCG@10 on old test parts was lost; below 0 for a gain.

        Against the bundle in service, not the best ever: a candidate that forgets never serves, so
        that what is in service is what there is to lose (compare Chaudhry et al., "Riemannian Walk
        for Incremental Learning", 2018).
        """
        if self.old_before is None or self.old_after is None:
            return None
        return self.old_before - self.old_after


class Open(_Model):
    """A round that is under way."""

    number: Annotated[int, Field(ge=1)]
    # Of the pages that it learns from; what came of them is read up to `seen`.
    since: str
    until: str
    seen: str = ""
    parent: str = ""


class State(_Model):
    """`state.json`."""

    format: Literal[1] = 1
    # The name of the bundles that are trained.
    name: str
    # Up to where the logs are learned from, ISO 8601 in UTC.
    until: str
    rounds: tuple[Round, ...] = ()
    current: Open | None = None

    @property
    def learned(self) -> Round | None:
        """The last round that trained something; its folder holds what is remembered."""
        return next((done for done in reversed(self.rounds) if done.candidate), None)


def read_state(folder: Path) -> State | None:
    """None where nothing was begun.

    Raises:
        InvalidInput: it is damaged.
    """
    path = folder / _STATE
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InvalidInput(
            f"{path}: {first_problem(error)}. Begin anew with another --out folder."
        ) from error


def write_state(folder: Path, state: State) -> None:
    """In one step.

    Raises:
        Unsupported: it can't be written, such as to a full disk.
    """
    try:
        write_whole(folder / _STATE, state.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise Unsupported(f"{folder / _STATE} can't be written: {error}.") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for one process.

    Raises:
        Overloaded: another one works in it.
        Unsupported: it can't be written.
    """
    busy = Overloaded(
        f"Another `neuralrank train update` works in {folder}. Wait for it, or stop it."
    )
    with exclusive(folder / ".lock", busy):
        yield
