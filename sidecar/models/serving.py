"""Which models serve at one moment, and which of them a request gets. Immutable, so that a request
that holds one is not touched by a swap."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from neuralrank.bundles.bundle import most_languages_first, parse_ref
from neuralrank.encoders.pictures import Picture
from neuralrank.errors import NotFound, Unavailable
from neuralrank.personal.inputs import Columns, Event
from neuralrank.text.tokens import Ids, Tokens
from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.sizes import shown
from sidecar.spread import place

__all__ = [
    "Agreement",
    "CrossEncoderModel",
    "EncoderModel",
    "ImageModel",
    "Loaded",
    "PersonalModel",
    "Role",
    "Serving",
    "State",
    "Status",
    "VectorModel",
    "knows",
    "unfollowed",
]


class _Model(Protocol):
    """What is needed of every model that runs in the queue."""

    @property
    def ref(self) -> str: ...
    @property
    def backend_name(self) -> str: ...


class VectorModel(_Model, Protocol):
    """What is needed of a model that makes vectors, whatever of."""

    @property
    def dimensions(self) -> int: ...
    def run(self, batch: Sequence[Any]) -> Floats: ...


class EncoderModel(VectorModel, Protocol):
    """What ranking needs of an encoder; `neuralrank.encoders.encoder.Encoder` is one."""

    @property
    def matryoshka(self) -> tuple[int, ...]: ...
    def tokenise_queries(self, texts: Sequence[str]) -> list[Tokens]: ...
    def tokenise_passages(self, texts: Sequence[str]) -> list[Tokens]: ...
    def calibrate_query(self, cosines: Floats) -> Floats: ...
    def calibrate_item(self, cosines: Floats) -> Floats: ...
    def calibrate_centroid(self, cosines: Floats) -> Floats: ...


class CrossEncoderModel(_Model, Protocol):
    """What ranking needs of a cross-encoder, such as
    `neuralrank.encoders.cross_encoder.CrossEncoder`."""

    @property
    def vocabulary(self) -> str: ...
    def supports(self, language: str) -> bool: ...
    def tokenise(self, texts: Sequence[str]) -> list[Ids]: ...
    def pair(self, query: Ids, text: Ids) -> Tokens: ...
    def run(self, batch: Sequence[Tokens]) -> Floats: ...
    def probability(self, logits: Floats) -> Floats: ...


def knows(model: CrossEncoderModel, language: str | None) -> bool:
    """Whether a cross-encoder reads texts of a language. None (of none): each does
    (`neuralrank.text.language.to_be_known`)."""
    return language is None or model.supports(language)


class ImageModel(VectorModel, Protocol):
    """What is needed of an image encoder, such as
    `neuralrank.encoders.image_encoder.ImageEncoder`."""

    def read(self, photos: Sequence[bytes]) -> list[Picture]: ...
    def golden_vector(self) -> Floats: ...


class PersonalModel(Protocol):
    """What ranking needs of a personal ranker; `neuralrank.personal.ranker.PersonalRanker`."""

    @property
    def ref(self) -> str: ...
    @property
    def encoder(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def events(self) -> int: ...
    def score(
        self,
        events: Sequence[Event],
        event_vectors: Floats,
        event_columns: Columns,
        ids: Sequence[str],
        vectors: Floats,
        columns: Columns,
        query: Floats | None,
        retrieval: Floats,
    ) -> Floats: ...
    def likely(self, events: Sequence[Event], most: int, without: Collection[str]) -> list[str]: ...
    def fit(self, scores: Floats) -> Floats: ...


class State(Enum):
    """Names are those of the wire contract."""

    LOADING = "loading"
    SERVING = "serving"
    REFUSED = "refused"
    # In the registry, not loaded.
    PUBLISHED = "published"


class Role(Enum):
    """What a bundle is in the service of its name. Names are those of the wire contract."""

    SERVING = "serving"
    PREVIOUS = "previous"
    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a candidate compares to the bundle in service: counts of requests, and means over those
    that were compared. `score_drift` is how much higher the candidate's calibrated scores are."""

    requests: int = 0
    dropped: int = 0
    failed: int = 0
    kendall_tau: float = 0.0
    top_overlap: float = 0.0
    score_drift: float = 0.0


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
    # The longest text, or pair of query and text, that is read whole; 0 of what reads no texts.
    max_tokens: int = 0
    serving_since_ms: int = 0
    is_default: bool = False
    roles: tuple[Role, ...] = ()
    # The share that a canary or a shadow gets; 0 for others.
    percent: float = 0.0
    agreement: Agreement | None = None

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
    personal: PersonalModel | None = None
    image: ImageModel | None = None
    cost: Cost = field(default_factory=Cost)

    @property
    def model(self) -> EncoderModel | CrossEncoderModel | PersonalModel | ImageModel:
        """The one of its kind."""
        found = self.encoder or self.cross_encoder or self.personal or self.image
        assert found is not None  # a loaded bundle has one
        return found


def unfollowed(_: str) -> None:
    """What was asked for is not followed."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The models of one moment."""

    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    default_encoder: str = ""
    default_cross_encoder: str = ""
    # "none": none is asked.
    default_personal: str = ""
    # By name: the bundle that answers for it. None: of each name the newest.
    current: Mapping[str, str] | None = None
    # By name: a candidate, and the share of users, in percent, whom it answers in its place.
    canaries: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    # By name: a candidate that scores beside it, and for which share of requests.
    shadows: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    # What is published and could be loaded.
    published: frozenset[str] = frozenset()
    # Told of every bundle that is asked for by name@hash.
    asked: Callable[[str], None] = unfollowed

    def arm(self, key: str) -> "Serving":
        """The models for one user, where a share of users is answered by canaries.

        The same user always gets the same; with a growing share, those who have the canary keep it.

        Args:
            key: the user's id, else the request's; "" is never answered by a canary.
        """
        if not key or not self.canaries or self.current is None:
            return self
        current = dict(self.current)
        for name, (ref, percent) in self.canaries.items():
            if ref in self.loaded and place(ref, key) < percent:
                current[name] = ref
        return replace(self, current=current)

    def is_canary(self, ref: str) -> bool:
        return self.canaries.get(parse_ref(ref)[0], ("", 0.0))[0] == ref

    def shadow_of(self, ref: str) -> tuple[Loaded, float] | None:
        """The candidate that is compared to the bundle in service, and the share of requests."""
        name, _ = parse_ref(ref)
        shadow, percent = self.shadows.get(name, ("", 0.0))
        served = (self.current or {}).get(name)
        if shadow not in self.loaded or ref != served or self.is_canary(ref):
            return None
        return self.loaded[shadow], percent

    def encoder(self, name: str = "") -> EncoderModel:
        """By name, name@hash, or "" for the default.

        Raises:
            NotFound: it is not served; the message lists what is.
            Unavailable: it is published, and is being loaded.
        """
        encoder = self.pick(name or self.default_encoder, "encoder").encoder
        assert encoder is not None  # by its kind
        return encoder

    def image_encoder(self, name: str = "") -> ImageModel:
        """By name, name@hash, or "" for the first by name.

        Raises:
            NotFound: it is not served; the message lists what is.
            Unavailable: it is published, and is being loaded.
        """
        image = self.pick(name, "image_encoder").image
        assert image is not None  # by its kind
        return image

    def cross_encoder(self, name: str) -> tuple[CrossEncoderModel, Cost]:
        """By name or name@hash.

        Raises:
            NotFound: it is not served; the message lists what is.
            Unavailable: it is published, and is being loaded.
        """
        found = self.pick(name, "cross_encoder")
        assert found.cross_encoder is not None  # by its kind
        return found.cross_encoder, found.cost

    def cross_encoder_for(self, language: str | None) -> tuple[CrossEncoderModel, Cost] | None:
        """The default if it serves the language, else the first by name that does, else None.

        Args:
            language: None: of none, which all serve.
        """
        answering = self._answering("cross_encoder")
        default, _ = parse_ref(self.default_cross_encoder)
        if self.default_cross_encoder in self.loaded:
            # By its hash, also where nothing of its name is in service.
            answering[default] = self.loaded[self.default_cross_encoder]
        for name in sorted(answering, key=lambda name: (name != default, name)):
            found = answering[name]
            if found.cross_encoder is not None and knows(found.cross_encoder, language):
                return found.cross_encoder, found.cost
        return None

    def personal_ranker(self, encoder: str) -> tuple[PersonalModel, Cost] | None:
        """The one of the settings, else the first by name, that reads vectors of an encoder, by its
        name@hash; None: none does."""
        for ref in self.personal_rankers:
            found = self.loaded[ref]
            if found.personal is not None and found.personal.encoder == encoder:
                return found.personal, found.cost
        return None

    @property
    def personal_rankers(self) -> list[str]:
        """name@hash of those that may be asked, by name."""
        wanted = self.default_personal
        if wanted in self.loaded:
            return [wanted]
        name, digits = parse_ref(wanted)
        answering = self._answering("personal_ranker")
        return [
            answering[other].status.ref
            for other in sorted(answering)
            if not digits and name in ("", other)
        ]

    def has(self, ref: str) -> bool:
        """Whether a bundle is served, or published, under a name or name@hash."""
        known = self.published | self.loaded.keys()
        return ref in known or ref in {parse_ref(one)[0] for one in known}

    @property
    def unanswered(self) -> dict[str, str]:
        """Of the defaults that were named, by kind, those that no bundle in service is."""
        named = {
            "encoder": self.default_encoder,
            "cross_encoder": self.default_cross_encoder,
            "personal_ranker": "" if self.default_personal == "none" else self.default_personal,
        }
        return {
            kind: ref
            for kind, ref in named.items()
            if ref
            and ref not in self._answering(kind)
            and not (ref in self.loaded and self.loaded[ref].status.kind == kind)
        }

    @property
    def statuses(self) -> list[Status]:
        return [self.loaded[ref].status for ref in sorted(self.loaded)]

    def _answering(self, kind: str) -> dict[str, Loaded]:
        """By name, the bundle that answers for it."""
        if self.current is not None:
            found = [self.loaded[ref] for ref in self.current.values() if ref in self.loaded]
        else:
            found = sorted(self.loaded.values(), key=lambda loaded: loaded.created)
        return {loaded.status.name: loaded for loaded in found if loaded.status.kind == kind}

    def pick(self, ref: str, kind: str) -> Loaded:
        """The model of a kind by name, name@hash, or "" for the first by name; of encoders, for
        the first of those that know most languages.

        Raises:
            NotFound: it is not served; the message lists what is.
            Unavailable: it is published, and is being loaded.
        """
        if parse_ref(ref)[1]:
            if ref in self.loaded and self.loaded[ref].status.kind == kind:
                self.asked(ref)
                return self.loaded[ref]
            if ref in self.published and ref not in self.loaded:
                self.asked(ref)
                raise Unavailable(
                    f"Bundle {ref} is published and is being loaded, since it was asked for. Ask "
                    "again in a moment; `neuralrank models status` shows how it goes."
                )
        answering = self._answering(kind)
        if ref in answering:  # a name alone
            return answering[ref]
        if not ref and answering:
            names = sorted(answering)
            if kind == "encoder":
                names.sort(key=lambda one: most_languages_first(answering[one].status.languages))
            return answering[names[0]]
        served = ", ".join(sorted(row.ref for row in self.statuses if row.kind == kind))
        raise NotFound(
            f"No {kind}{f' {shown(ref)}' if ref else ''} is served. Served: {served or 'none'}. "
            "Name one that is, or publish it with `neuralrank models add`."
        )
