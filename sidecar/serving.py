"""Which models serve at one moment, and which of them a request gets. Immutable, so that a request
that holds one is not touched by a swap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from neuralrank.bundle import parse_ref
from neuralrank.errors import NotFound
from neuralrank.tokens import Ids, Tokens
from sidecar.cost import Cost
from sidecar.domain import Floats

__all__ = ["CrossEncoderModel", "EncoderModel", "Loaded", "Serving", "State", "Status"]


class EncoderModel(Protocol):
    """What ranking needs of an encoder; `neuralrank.encoder.Encoder` is one."""

    @property
    def ref(self) -> str: ...
    @property
    def backend_name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    def tokenise_queries(self, texts: Sequence[str]) -> list[Tokens]: ...
    def tokenise_passages(self, texts: Sequence[str]) -> list[Tokens]: ...
    def run(self, batch: Sequence[Tokens]) -> Floats: ...
    def calibrate_query(self, cosines: Floats) -> Floats: ...
    def calibrate_item(self, cosines: Floats) -> Floats: ...
    def calibrate_centroid(self, cosines: Floats) -> Floats: ...


class CrossEncoderModel(Protocol):
    """What ranking needs of a cross-encoder; `neuralrank.cross_encoder.CrossEncoder` is one."""

    @property
    def ref(self) -> str: ...
    @property
    def backend_name(self) -> str: ...
    def supports(self, language: str) -> bool: ...
    def tokenise(self, texts: Sequence[str]) -> list[Ids]: ...
    def pair(self, query: Ids, text: Ids) -> Tokens: ...
    def run(self, batch: Sequence[Tokens]) -> Floats: ...
    def probability(self, logits: Floats) -> Floats: ...


class State(Enum):
    """Names are those of the wire contract."""

    LOADING = "loading"
    SERVING = "serving"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Status:
    """What became of a bundle. `serving_since_ms` is 0 if it never served."""

    name: str
    hash: str
    kind: str
    languages: tuple[str, ...]
    state: State
    reason: str = ""
    backend: str = ""
    serving_since_ms: int = 0
    is_default: bool = False

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.hash}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A warm model, and what is known of its bundle."""

    status: Status
    created: datetime
    encoder: EncoderModel | None = None
    cross_encoder: CrossEncoderModel | None = None
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Serving:
    """The models of one moment. Of a name that has several bundles, the newest answers."""

    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    default_encoder: str = ""
    default_cross_encoder: str = ""

    def encoder(self, name: str = "") -> EncoderModel:
        """By name, name@hash, or "" for the default.

        Raises:
            NotFound: it is not served; the message lists what is.
        """
        encoder = self.pick(name or self.default_encoder, "encoder").encoder
        assert encoder is not None  # by its kind
        return encoder

    def cross_encoder(self, name: str) -> tuple[CrossEncoderModel, Cost]:
        """By name or name@hash.

        Raises:
            NotFound: it is not served; the message lists what is.
        """
        found = self.pick(name, "cross_encoder")
        assert found.cross_encoder is not None  # by its kind
        return found.cross_encoder, found.cost

    def cross_encoder_for(self, language: str) -> tuple[CrossEncoderModel, Cost] | None:
        """The default if it serves the language, else the first by name that does, else None."""
        newest = self._newest("cross_encoder")
        default, _ = parse_ref(self.default_cross_encoder)
        names = sorted(newest, key=lambda name: (name != default, name))
        if self.default_cross_encoder in self.loaded:
            newest[default] = self.loaded[self.default_cross_encoder]
        for name in names:
            found = newest[name]
            if found.cross_encoder is not None and found.cross_encoder.supports(language):
                return found.cross_encoder, found.cost
        return None

    @property
    def statuses(self) -> list[Status]:
        return [self.loaded[ref].status for ref in sorted(self.loaded)]

    def _newest(self, kind: str) -> dict[str, Loaded]:
        newest: dict[str, Loaded] = {}
        for loaded in sorted(self.loaded.values(), key=lambda loaded: loaded.created):
            if loaded.status.kind == kind:
                newest[loaded.status.name] = loaded
        return newest

    def pick(self, ref: str, kind: str) -> Loaded:
        """The model of a kind by name, name@hash, or "" for the first by name.

        Raises:
            NotFound: it is not served; the message lists what is.
        """
        name, digits = parse_ref(ref)
        if digits and ref in self.loaded and self.loaded[ref].status.kind == kind:
            return self.loaded[ref]
        newest = self._newest(kind)
        if not digits and name in newest:
            return newest[name]
        if not ref and newest:
            return newest[min(newest)]
        served = ", ".join(sorted(row.ref for row in self.statuses if row.kind == kind))
        raise NotFound(
            f"No {kind}{f' {ref!r}' if ref else ''} is served. Served: {served or 'none'}. Name "
            "one that is, or publish it with `neuralrank models add`."
        )
