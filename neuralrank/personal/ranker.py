"""The personal ranker: how well each candidate fits a user, from what the user did lately.

The graph is that of `trainer.personal.ranker` (docs/decisions/018-personal-ranker.md lists its
inputs). What it reads is put together by `neuralrank.personal.inputs`.

In comments l is the number of events, n of candidates, d the encoder's dimensions.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from neuralrank.backends.onnxruntime import OnnxRuntime, open_session
from neuralrank.bundles.bundle import Bundle, PersonalInputs, calibrated
from neuralrank.bundles.golden import require_same, require_shape, running
from neuralrank.errors import InvalidBundle
from neuralrank.personal.inputs import (
    ACTIONS,
    FEATURES,
    HEADS,
    PAIRS,
    Columns,
    Event,
    action_numbers,
    features,
    pairs,
)
from neuralrank.personal.item_knn import ItemKnn

__all__ = ["ITEMS", "PersonalRanker", "golden_scores", "item_numbers"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# What a bundle calls the ids of the items that it knows.
ITEMS: Final = "items.json"
_INPUTS: Final = frozenset({
    "events", "ages", "actions", "present", "candidates", "query", "features", "event_ids",
    "candidate_ids", "pairs",
})  # fmt: skip
# Of the input that every bundle is checked with.
_GOLDEN: Final = (3, 5)


class PersonalRanker:
    """A loaded personal ranker. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Raises InvalidBundle: it is of another kind, or reads what this version doesn't know."""
        if bundle.manifest.personal is None:
            raise InvalidBundle(
                f"{bundle.ref} is of kind {bundle.manifest.kind}, not personal_ranker."
            )
        self.bundle = bundle
        self._reads = reads = bundle.manifest.personal
        if HEADS[1] not in reads.heads:
            raise InvalidBundle(f"{bundle.ref} has no head {HEADS[1]!r}, which every ranker has.")
        for what, found, known in (
            ("heads", reads.heads, HEADS), ("actions", reads.actions, ACTIONS),
            ("features", reads.features, FEATURES), ("pairs", reads.pairs, PAIRS),
        ):  # fmt: skip
            if unknown := set(found) - set(known):
                raise InvalidBundle(
                    f"{bundle.ref} has the {what} {sorted(unknown)}, which this version does not "
                    f"know; it knows {', '.join(name for name in known if name)}."
                )
        self._features = [FEATURES.index(name) for name in reads.features]
        self._pairs = [PAIRS.index(name) for name in reads.pairs]
        # Those that the bundle does not know are its 0.
        self._actions = np.array(
            [reads.actions.index(name) if name in reads.actions else 0 for name in ACTIONS]
        )
        self._session = open_session(bundle.model, threads)
        inputs = frozenset(given.name for given in self._session.get_inputs())
        if not {"events", "candidates", "present"} <= inputs <= _INPUTS:
            raise InvalidBundle(
                f"{bundle.model} has the inputs {sorted(inputs)}; a personal ranker has "
                f"{sorted(_INPUTS)}."
            )
        self._inputs = inputs
        self._items = item_numbers(bundle)
        self._knn = ItemKnn.read(bundle)
        if bundle.manifest.item_knn and self._knn is None:
            raise InvalidBundle(f"{bundle.ref} counts what users had together, and has no table.")

    @classmethod
    def load(cls, bundle: Bundle, threads: int = 0) -> Self:
        """Loads a bundle and checks its golden scores; the model is then warm.

        Raises:
            InvalidBundle: it is of another kind, can't be loaded, or gives other scores than when
                it was made, scores of a wrong shape or none that are finite.
        """
        model = cls(bundle, threads)
        _check(model)
        return model

    @property
    def ref(self) -> str:
        return self.bundle.ref

    @property
    def backend_name(self) -> str:
        return OnnxRuntime.name

    @property
    def dimensions(self) -> int:
        """Of the vectors that it reads."""
        return self.bundle.manifest.dimensions

    @property
    def encoder(self) -> str:
        """Whose vectors it reads, as name@hash."""
        return self._reads.encoder

    @property
    def events(self) -> int:
        """The most events that it reads."""
        return self._reads.events

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
    ) -> Floats:
        """How well candidates fit a user, float32 [n]; each for itself.

        Args:
            events: oldest first, of `steps`. More than `self.events`: the newest.
            event_vectors: float32 [l, d].
            ids: of the candidates; unknown ones are ranked by their content.
            vectors: float32 [n, d]; zeros where there is none.
            query: float32 [d]; None: nothing was searched for.
            retrieval: float32 [n] in [0, 1]; NaN: absent.
        """
        newest = slice(-self.events, None)
        read = events[newest]
        if not read:  # the graph needs a place for them
            event_vectors = np.zeros((1, vectors.shape[1]), np.float32)
            event_columns = Columns.of([""], [()], [np.nan], {})
        if query is None or HEADS[0] not in self._reads.heads:
            # What is recommended was not retrieved, whatever order it came in.
            head, query = HEADS[1], np.zeros(vectors.shape[1], np.float32)
            retrieval = np.full(len(ids), np.nan, np.float32)
        else:
            head = HEADS[0]
        scores = self._run(
            head,
            {
                "events": event_vectors[newest],
                "ages": np.arange(max(len(read), 1) - 1, -1, -1, dtype=np.float32),
                "actions": self._actions[action_numbers([event.action for event in read] or [""])],
                "present": np.full(max(len(read), 1), bool(read)),
                "candidates": vectors,
                "query": query,
                "features": features(retrieval, columns.price)[..., self._features],
                "event_ids": self._numbers([event.item_id for event in read] or [""]),
                "candidate_ids": self._numbers(ids),
                "pairs": pairs(event_columns[newest], columns)[..., self._pairs],
            },
        )
        if self._knn is None or not self.bundle.manifest.item_knn:
            return scores
        share = self.bundle.manifest.item_knn[self._reads.heads.index(head)]
        near = self._knn.closeness([event.item_id for event in read], ids)
        blended = (scores + share.weight * near - share.low) / (share.high - share.low)
        return np.asarray(blended, np.float32)

    def likely(
        self, events: Sequence[Event], most: int, without: Collection[str] = ()
    ) -> list[str]:
        """Ids of items that those who did the same have, likeliest first, nothing that is among the
        events; without events, of those that most have. None where the bundle does not know what
        users had together, or nobody did the same.

        Args:
            events: oldest first; the newest count most, and those before the newest `self.events`
                nothing.
            most: how many at most.
            without: ids that are left out, such as of what was bought before these events.
        """
        if self._knn is None:
            return []
        items = [event.item_id for event in events]
        return self._knn.likely(items[-self.events :], most, {*items, *without})

    def fit(self, scores: Floats) -> Floats:
        """Scores mapped linearly to [0, 1] by the manifest's calibration."""
        return calibrated(scores, self.bundle.manifest.logit)

    def _numbers(self, ids: Iterable[str]) -> Ints:
        return np.array([self._items.get(name, 0) for name in ids], np.int64)

    def _run(self, head: str, feeds: Mapping[str, NDArray[Any]]) -> Floats:
        """One user's candidates, float32 [n].

        Raises:
            InvalidBundle: the graph gives another shape.
        """
        given = {name: array[None] for name, array in feeds.items() if name in self._inputs}
        result: Floats = self._session.run(None, given)[0]
        heads = self._reads.heads
        require_shape(self.ref, "scores", result, 1, len(feeds["candidates"]), len(heads))
        return result[0, :, heads.index(head)]


def golden_scores(model: PersonalRanker, head: str) -> Floats:
    """Scores of an input that is the same everywhere, float32 [5]: waves, no real vectors."""
    reads, dimensions = model.bundle.manifest.personal, model.bundle.manifest.dimensions
    assert isinstance(reads, PersonalInputs)
    length, count = _GOLDEN

    def waves(*shape: int) -> Floats:
        places = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        return np.sin(places + 0.5).astype(np.float32)

    def unit(vectors: Floats) -> Floats:
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)

    return model._run(
        head,
        {
            "events": unit(waves(length, dimensions)),
            "ages": np.arange(length - 1, -1, -1, dtype=np.float32),
            "actions": np.arange(length) % len(reads.actions),
            "present": np.ones(length, bool),
            "candidates": unit(waves(count + 1, dimensions)[1:]),
            "query": unit(waves(2, dimensions)[1]),
            "features": np.abs(waves(count, len(reads.features))),
            # Ids are other ones in each bundle; weights of all of them are in its files' digest.
            "event_ids": np.zeros(length, np.int64),
            "candidate_ids": np.zeros(count, np.int64),
            "pairs": np.abs(waves(length, count, len(reads.pairs))),
        },
    )


def _check(model: PersonalRanker) -> None:
    manifest = model.bundle.manifest
    assert manifest.personal is not None
    with running(model.ref):
        for head in manifest.personal.heads:
            if not np.isfinite(golden_scores(model, head)).all():
                raise InvalidBundle(
                    f"{model.ref} gives scores that are NaN or infinite. It is not served."
                )
        for golden in manifest.golden:
            found = golden_scores(model, golden.texts[0])
            require_same(model.bundle, golden, found, "scores the golden input with")


def item_numbers(bundle: Bundle) -> dict[str, int]:
    """Numbers of the items that have an embedding, by id, from 1.

    Raises:
        InvalidBundle: its list of them is damaged.
    """
    if ITEMS not in bundle.manifest.files:
        return {}
    try:
        names = orjson.loads((bundle.path / ITEMS).read_bytes())
        return {str(name): number for number, name in enumerate(names, start=1)}
    except (ValueError, TypeError) as error:
        raise InvalidBundle(f"{bundle.path / ITEMS} is no list of ids: {error}.") from error
