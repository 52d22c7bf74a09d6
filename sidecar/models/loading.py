"""From a published bundle to a warm model, and whether that is fast enough to take a place."""

import time
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import numpy as np

from neuralrank.backends.choice import Choice
from neuralrank.bundles.bundle import Bundle, Manifest
from neuralrank.bundles.in_service import InService
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.encoders.encoder import Encoder
from neuralrank.encoders.image_encoder import ImageEncoder
from neuralrank.errors import InvalidBundle, NeuralrankError, Unavailable
from neuralrank.personal.inputs import Columns, Event
from neuralrank.personal.ranker import PersonalRanker
from neuralrank.text.tokens import Tokens
from sidecar.cores import Share
from sidecar.domain import Floats
from sidecar.inference.cost import Cost
from sidecar.models.serving import CrossEncoderModel, Loaded, PersonalModel, State, Status

__all__ = ["BundleSource", "TooSlow", "check_speed", "load_bundle"]

# Pairs of about the length of real ones: their time is the first estimate of a pair's cost.
_WARM_QUERY: Final = "wireless noise cancelling headphones 降噪耳机"
_WARM_TEXT: Final = (
    "Over-ear wireless headphones with active noise cancelling, 30 hours of battery, foldable. "
    "头戴式无线降噪耳机，续航三十小时，可折叠。"
)
_WARM_PAIRS: Final = 4
# Runs before the first estimate: the first ones allocate, on a GPU once for each of two callers.
_WARM_RUNS: Final = 3
# Candidates and events of a usual page, for a personal ranker.
_WARM_CANDIDATES: Final = 100
_WARM_EVENTS: Final = 20
# Runs of either model, taking turns, before the second is called too slow; fewer where it is not.
_ROUNDS: Final = 12
_ROUNDS_AT_LEAST: Final = 3
# What says which bundle answers requests that name none. Of image encoders there is no such choice.
_DEFAULT_OF: Final = {
    "encoder": "NEURALRANK_SIDECAR_DEFAULT_ENCODER",
    "cross_encoder": "NEURALRANK_SIDECAR_DEFAULT_CROSS_ENCODER",
    "personal_ranker": "NEURALRANK_SIDECAR_PERSONAL_RANKER",
}


class TooSlow(InvalidBundle):
    """A bundle that takes longer than it may beside the one in service, `incumbent`."""

    def __init__(self, message: str, incumbent: str = "") -> None:
        super().__init__(message)
        self.incumbent = incumbent


class BundleSource(Protocol):
    """Where bundles are published; `neuralrank.bundles.registry.Registry` is one."""

    def refs(self) -> list[str]: ...
    def get(self, ref: str) -> Bundle: ...
    def manifest(self, ref: str) -> Manifest: ...
    def in_service(self, name: str) -> InService: ...
    def fingerprint(self, ref: str) -> str: ...
    def came(self, ref: str) -> datetime: ...
    def tidy(self, used: Collection[str]) -> None: ...


def load_bundle(
    source: BundleSource, ref: str, share: Share, choice: Choice | None = None
) -> Loaded:
    """Reads, verifies, loads and warms a bundle. Takes seconds: not for the event loop.

    Raises:
        OSError, Unavailable: it can't be read now.
        NeuralrankError: it can't be served; the message says why.
    """
    bundle = _read(source, ref)
    manifest = bundle.manifest
    encoder: Encoder | None = None
    cross_encoder: CrossEncoder | None = None
    personal: PersonalRanker | None = None
    image: ImageEncoder | None = None
    cost = Cost()
    if manifest.kind == "encoder":
        encoder = Encoder.load(bundle, share.query_threads, choice)
        encoder.encode_queries([_WARM_QUERY])
        backend = encoder.backend_name
    elif manifest.kind == "cross_encoder":
        cross_encoder = CrossEncoder.load(bundle, share.pair_threads, choice)
        pairs = _warm_pairs(cross_encoder)
        run = partial(cross_encoder.run, pairs)
        cost.observe(sum(map(len, pairs)), _fastest(run))
        backend = cross_encoder.backend_name
    elif manifest.kind == "personal_ranker":
        personal = PersonalRanker.load(bundle, share.query_threads)
        work = _warm_page(personal)
        cost.observe(_WARM_CANDIDATES * min(_WARM_EVENTS, personal.events), _fastest(work))
        backend = personal.backend_name
    else:
        image = ImageEncoder.load(bundle, share.query_threads)
        backend = image.backend_name
    status = Status(
        manifest.name,
        bundle.hash,
        manifest.kind,
        manifest.languages,
        State.SERVING,
        backend=backend,
        max_tokens=manifest.max_tokens,
        serving_since_ms=int(time.time() * 1_000),
    )
    return Loaded(status, manifest.created, encoder, cross_encoder, personal, image, cost)


def _read(source: BundleSource, ref: str) -> Bundle:
    try:
        return source.get(ref)
    except (NeuralrankError, OSError):
        raise
    except Exception as error:  # the client of each store has its own, and no root of them
        raise Unavailable(
            f"{ref} can't be read from the registry ({type(error).__name__}: {error}). Try again; "
            "sidecars do."
        ) from error


def check_speed(incumbent: Loaded, candidate: Loaded, max_slowdown: float) -> None:
    """Compares both on the same texts, taking turns, by their fastest runs: what else the machine
    does makes runs slower, never faster. It goes on until the candidate was fast enough once, so
    that a busy moment refuses nothing.

    Raises:
        TooSlow: the candidate took more than `max_slowdown` times as long in every round.
    """
    if incumbent.status.kind != candidate.status.kind:
        return
    old, new = _work(incumbent), _work(candidate)
    best_old = best_new = float("inf")
    for done in range(1, _ROUNDS + 1):
        best_old = min(best_old, _seconds(old))
        best_new = min(best_new, _seconds(new))
        if done >= _ROUNDS_AT_LEAST and best_new <= max_slowdown * best_old:
            return
    old_ref, new_ref = incumbent.status.ref, candidate.status.ref
    setting = _DEFAULT_OF.get(candidate.status.kind)
    # Of another name: it was to answer whoever names none.
    aside = (
        f" For who asks for {candidate.status.name} by its name alone, set {setting} to what is to "
        "answer all others."
        if setting and candidate.status.name != incumbent.status.name
        else ""
    )
    raise TooSlow(
        f"{new_ref} takes {best_new * 1_000:.2f} ms where {old_ref}, which is in service, takes "
        f"{best_old * 1_000:.2f} ms: {best_new / best_old:.1f} times as long; allowed is "
        f"{max_slowdown:g} times. Promote it with --max-slowdown, or raise "
        f"NEURALRANK_SIDECAR_MAX_SLOWDOWN, to serve it all the same.{aside}",
        old_ref,
    )


def _work(loaded: Loaded) -> Callable[[], object]:
    cross_encoder, encoder = loaded.cross_encoder, loaded.encoder
    if loaded.personal is not None:
        return _warm_page(loaded.personal)
    if loaded.image is not None:
        return loaded.image.golden_vector
    if cross_encoder is not None:
        return lambda: cross_encoder.run(_warm_pairs(cross_encoder))
    assert encoder is not None  # a loaded bundle has one of the four
    return lambda: encoder.run(encoder.tokenise_queries([_WARM_QUERY]))


def _warm_pairs(model: CrossEncoderModel) -> list[Tokens]:
    query, text = model.tokenise([_WARM_QUERY, _WARM_TEXT])
    return [model.pair(query, text)] * _WARM_PAIRS


def _warm_page(model: PersonalModel) -> Callable[[], object]:
    def vectors(count: int) -> Floats:
        return np.eye(count, model.dimensions, dtype=np.float32)

    def columns(count: int) -> Columns:
        return Columns.of([""] * count, [()] * count, np.full(count, np.nan), {})

    events = [Event("", "")] * _WARM_EVENTS
    ids = [""] * _WARM_CANDIDATES
    page = vectors(_WARM_CANDIDATES), columns(_WARM_CANDIDATES), None
    retrieval = np.zeros(_WARM_CANDIDATES, np.float32)
    return lambda: model.score(
        events, vectors(_WARM_EVENTS), columns(_WARM_EVENTS), ids, *page, retrieval
    )


def _fastest(work: Callable[[], object]) -> float:
    """What a warm run takes."""
    return min(_seconds(work) for _ in range(_WARM_RUNS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
