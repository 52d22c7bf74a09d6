"""What the registry says should be loaded, read in one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from neuralrank.bundles.bundle import parse_ref
from neuralrank.bundles.in_service import InService, Published
from neuralrank.errors import InvalidInput, NeuralrankError
from sidecar.models.loading import BundleSource

__all__ = ["Plan", "Reader"]

# What is wrong with one file and not with the registry: as one that only another user may read.
_OF_ONE_FILE: Final = (PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class Plan:
    """Bundles by name@hash."""

    # Everything that is published.
    refs: frozenset[str] = frozenset()
    # By name: what may serve, the one that should first. Not of a name of which nothing is known.
    orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    states: Mapping[str, InService] = field(default_factory=dict)
    # By name: when the first of its bundles came. Not of a name of which nothing is known.
    since: Mapping[str, datetime] = field(default_factory=dict)
    # Why the manifest of a published bundle, or what is in service of a name, can't be read.
    problems: Mapping[str, str] = field(default_factory=dict)

    def trial(self, name: str, role: str) -> tuple[str, float] | None:
        """The candidate of a name in the role "canary" or "shadow", and its share in percent."""
        trial = getattr(self.states.get(name), role, None)
        if trial is None or f"{name}@{trial.hash}" not in self.refs:
            return None
        return f"{name}@{trial.hash}", trial.percent

    @property
    def trials(self) -> dict[str, str]:
        """Every candidate that is tried, with its role."""
        return {
            found[0]: role
            for name in self.states
            for role in ("shadow", "canary")
            if (found := self.trial(name, role)) is not None
        }


class Reader:
    """Looks at a registry. Manifests are read once: a bundle is never changed; one that can't be
    read or is not understood is read again each time."""

    def __init__(self, source: BundleSource) -> None:
        self._source = source
        # Of each that could be read: when it was made, and when it came.
        self._times: dict[str, tuple[datetime, datetime]] = {}
        self._states: dict[str, InService] = {}

    def look(self) -> Plan:
        """Raises OSError or NeuralrankError where the registry can't be read."""
        refs = self._source.refs()
        self._times = {ref: self._times[ref] for ref in refs if ref in self._times}
        problems: dict[str, str] = {}
        by_name: dict[str, list[Published]] = {}
        since: dict[str, datetime] = {}
        for ref in refs:
            name, digits = parse_ref(ref)
            by_name.setdefault(name, [])
            if ref not in self._times:
                try:
                    self._times[ref] = self._source.manifest(ref).created, self._source.came(ref)
                except (NeuralrankError, *_OF_ONE_FILE) as error:
                    problems[ref] = str(error)
                    continue
            created, came = self._times[ref]
            by_name[name].append(Published(digits, created))
            since[name] = min(came, since.get(name, came))
        states, orders = {}, {}
        for name, published in by_name.items():
            state = self._state(name, problems)
            if state is not None:
                states[name] = state
                orders[name] = [f"{name}@{digits}" for digits in state.order(published)]
        self._states |= states
        return Plan(frozenset(refs), orders, states, since, problems)

    def _state(self, name: str, problems: dict[str, str]) -> InService | None:
        """What serves; where that can't be read, what was read last. None: it never was, and so
        nothing of the name serves: the newest may be a candidate that has shown nothing."""
        try:
            return self._source.in_service(name)
        except (InvalidInput, *_OF_ONE_FILE) as error:
            known = self._states.get(name)
            problems[f"{name}@serving.json"] = f"{error} Until it can be read, " + (
                "what it said before holds."
                if known is not None
                else f"no bundle of {name} serves, since nothing says which one should."
            )
            return known
