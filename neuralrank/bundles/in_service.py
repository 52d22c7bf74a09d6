"""Which bundle of a name is in service; kept beside the bundles, as `<name>/serving.json`.

    {"format": 1, "serving": "d48b357b5193", "history": ["805e3a5b43e5"],
     "candidates": [], "canary": {"hash": "0f1e2d3c4b5a", "percent": 5.0}, "shadow": null,
     "max_slowdown": null}

Without the file, the newest bundle of the name serves. With a pin, nothing else serves until the
pin is changed, whatever is published. "serving": "none" is a pin on nothing: all bundles of the
name are candidates, and another name answers. Pure: what a command does is a function from one
state to the next, and the registry stores it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.validation import first_problem

__all__ = ["NONE", "InService", "Published", "Trial", "parse_in_service"]

# In the place of a hash: no bundle of the name serves.
NONE: Final = "none"
_HISTORY: Final = 100
# What served before need not be as fast as what took its place.
_AS_SLOW_AS_IT_IS: Final = 1e6
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class Published(NamedTuple):
    """A bundle of one name, as far as the order of service needs it."""

    hash: str
    created: datetime


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trial(_Model):
    """A candidate that is tried on a share of what is asked: of users (canary), or of requests that
    are scored a second time beside the served bundle (shadow)."""

    hash: _Hash
    # Above 0, at most 100.
    percent: Annotated[float, Field(gt=0, le=100)] = 100.0


class InService(_Model):
    """What serves under one name."""

    format: Literal[1] = 1
    # The bundle that serves. Empty: the newest. "none": none does until one is promoted.
    serving: _Hash | Literal["", "none"] = ""
    # What served before, oldest first: a rollback takes the last. The same bundle never twice in a
    # row. "none", at the beginning: nothing did.
    history: Annotated[tuple[_Hash | Literal["none"], ...], Field(max_length=_HISTORY)] = ()
    # Without a pin: candidates that nobody had promoted when it was taken away. None of them serves
    # because what is newer does not, or served before. (One that comes later brings a pin.)
    candidates: tuple[_Hash, ...] = ()
    canary: Trial | None = None
    shadow: Trial | None = None
    # How many times slower than the one in service the pinned bundle may be. None: the sidecar's
    # setting.
    max_slowdown: Annotated[float, Field(ge=1)] | None = None

    @property
    def trials(self) -> list[str]:
        """Hashes of canary and shadow."""
        return [trial.hash for trial in (self.canary, self.shadow) if trial is not None]

    def order(self, published: Sequence[Published]) -> list[str]:
        """Hashes that may serve, the one that should first; the next where that one is refused.

        Under a pin these are the pinned one and what served before it; else all, newest first. A
        candidate that nobody promoted is never among them.
        """
        newest = _newest_first(published)
        if not self.serving:
            waiting = {*self.candidates, *self.trials}
            return [digits for digits in newest if digits not in waiting]
        past = [digits for digits in reversed(self.history) if digits not in self.trials]
        return [digits for digits in dict.fromkeys([self.serving, *past]) if digits in newest]

    def promoted(
        self, digits: str, published: Sequence[Published], max_slowdown: float | None = None
    ) -> "InService":
        """With a bundle pinned; what served until now comes back with `rolled_back`."""
        order = self.order(published)
        if self.serving:
            served = [old for old in order[:1] or [NONE] if old != digits]
            history = (*self.history, *served)
        else:
            history = tuple(old for old in reversed(order) if old != digits)
        return self._serving(digits, history[-_HISTORY:], max_slowdown)

    def following(
        self,
        published: Sequence[Published],
        candidates: Collection[str],
        max_slowdown: float | None = None,
    ) -> "InService":
        """Without a pin: with the newest promoted, and every newer one from then on.

        Args:
            candidates: hashes; of those, what served until now goes on standing by, and no other.
            max_slowdown: of the newest. None: where it serves already, what was allowed it.
        """
        newest = _newest_first(published)[:1]
        if max_slowdown is None and newest == self.order(published)[:1]:
            max_slowdown = self.max_slowdown
        waiting = sorted({*candidates} - {*newest, *self.order(published)})
        state = self._serving("".join(newest), (), max_slowdown)
        return state.model_copy(update={"serving": "", "candidates": tuple(waiting)})

    def rolled_back(self, name: str, published: Sequence[Published]) -> "InService":
        """With what served before in service, which may be nothing; pinned, so that nothing newer
        takes its place.

        Raises:
            NotFound: nothing served before.
        """
        there = {entry.hash for entry in published}
        if self.serving:
            past = [digits for digits in self.history if digits in {*there, NONE}]
        else:
            past = self.order(published)[:0:-1]  # without the newest, oldest first
        past = [digits for digits in past if digits != self.serving]
        if not past:
            raise NotFound(
                f"Nothing served as {name!r} before {_words(self.serving)}: there is "
                "nothing to go back to. Promote a bundle by its hash; `neuralrank models list` "
                "shows them."
            )
        return self._serving(past[-1], tuple(past[:-1][-_HISTORY:]), _AS_SLOW_AS_IT_IS)

    def trying(
        self, role: Literal["canary", "shadow"], trial: Trial | None, published: Sequence[Published]
    ) -> "InService":
        """With another canary or shadow, or none. What serves is pinned, since a candidate that is
        the newest would else take its place.

        Raises:
            InvalidInput: the candidate is the one in service, or nothing else is there to serve.
        """
        if trial is None:
            return self.model_copy(update={role: None})
        others = [entry for entry in published if entry.hash != trial.hash]
        served = self.serving or next(iter(self.order(others)), "")
        if served in ("", NONE, trial.hash):
            raise InvalidInput(
                f"{trial.hash} is in service itself, or alone; a {role} is tried beside another "
                "bundle. Publish or promote another first."
            )
        return self.model_copy(update={role: trial, "serving": served, "candidates": ()})

    def without(self, digits: str) -> "InService":
        """With a bundle forgotten that is neither in service nor tried."""
        history = tuple(old for old in self.history if old != digits)
        candidates = tuple(waiting for waiting in self.candidates if waiting != digits)
        return self.model_copy(update={"history": history, "candidates": candidates})

    def _serving(
        self, digits: str, history: tuple[str, ...], max_slowdown: float | None
    ) -> "InService":
        """A pin; what serves is no longer tried."""
        return InService(
            serving=digits,
            history=history,
            canary=None if self.canary and self.canary.hash == digits else self.canary,
            shadow=None if self.shadow and self.shadow.hash == digits else self.shadow,
            max_slowdown=max_slowdown,
        )


def parse_in_service(data: bytes, origin: str) -> InService:
    """The state from its JSON.

    Raises:
        InvalidInput: it is not understood; the message says where it lies.
    """
    try:
        return InService.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(
            f"{origin}: {first_problem(error)}. Write it anew with `neuralrank models promote "
            "NAME@HASH`; a candidate needs --force with --reason."
        ) from error


def _words(serving: str) -> str:
    return {"": "the newest", NONE: "its first candidate"}.get(serving, serving)


def _newest_first(published: Sequence[Published]) -> list[str]:
    by_age = sorted(published, key=lambda entry: (entry.created, entry.hash))
    return [entry.hash for entry in reversed(by_age)]
