"""Scores bare texts against a query: what the rerank APIs over HTTP ask for.

There are no items, users or vectors here. A cross-encoder reads the texts where one serves the
query's language, through the same ranker as gRPC `Rank`; elsewhere the encoder compares query and
text. What the query excludes they don't read: what the text's title says of it moves the score. A
text's score depends on the query and on that text alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from neuralrank.errors import (
    DeadlineExceeded,
    InvalidInput,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unavailable,
)
from neuralrank.text.cleaning import beginning
from neuralrank.text.exclusions import exclusions
from neuralrank.text.language import to_be_known
from sidecar.deadline import Deadline
from sidecar.domain import (
    Candidates,
    Degradation,
    DegradedReason,
    Experiment,
    Participation,
    RankQuery,
    Weights,
)
from sidecar.inference.inference import Inference
from sidecar.models.follower import Models
from sidecar.models.serving import EncoderModel, Loaded, Serving, knows
from sidecar.ranking.blend import lowered, raised
from sidecar.ranking.cascade import Ranker
from sidecar.ranking.exclusions import mentions
from sidecar.sizes import MAX_QUERY, at_most, shown
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.trace import Trace

__all__ = [
    "RELEVANCE_ALONE",
    "Query",
    "TextQuery",
    "TextRanker",
    "TextRanking",
    "TextScore",
    "read_query",
    "read_text",
]

# Checked by `read_query`, whose messages say more; the bounds are for the OpenAPI document.
Query = Annotated[
    str,
    Field(
        description="What is searched for: 1 to 2,048 characters, not only blanks.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY, "pattern": r"\S"},
    ),
]
RELEVANCE_ALONE: Final = Weights(1.0, 0.0, 0.0)
# Texts in one run of an encoder: between runs the deadline is looked at.
_CHUNK: Final = 16


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A checked request. `model` is a bundle's name or name@hash, "" for the default of the query's
    language; `characters` is how much of each text is read."""

    query: str
    texts: Sequence[str]
    characters: int
    model: str = ""
    request_id: str = ""
    # Who asks: decides the arm of the experiment, and nothing else.
    user: str = ""
    # Its arms differ in the bundle.
    experiment: Experiment | None = None
    # "": that of the query as it stands.
    language: str = ""
    # Whether what the query excludes is read.
    exclusions: bool = True


def read_query(text: str) -> str:
    """The checked query, cleaned and without blanks around it. Raises InvalidInput."""
    _check_unicode("query", text)
    # Before it is cleaned, which may make it longer than that and is cut then.
    at_most("query", len(text), MAX_QUERY, "characters")
    query = beginning(text, MAX_QUERY).strip()
    if not query:
        raise InvalidInput("query is empty or blank; say what the documents are to answer.")
    return query


def read_text(where: str, text: str, characters: int) -> str:
    """So many characters of a text, cleaned and without blanks around it. Raises InvalidInput."""
    _check_unicode(where, text)
    # What is removed counts, as the documents say: so much is read, however it is written.
    return beginning(text.lstrip()[:characters], characters).strip()


def _check_unicode(where: str, text: str) -> None:
    """JSON can hold half of a character that is written as two."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"{where} has half a surrogate pair (\\u{ord(text[error.start]):04x}), which is no "
                "character. Send valid UTF-8."
            ) from error


@dataclass(frozen=True, slots=True)
class TextScore:
    """What a text got: `raw` is the model's own number for what the query wants; `score` the same
    in [0, 1], moved by what the text says of what the query excludes, and 0 where the text was not
    read (`raw` is then None)."""

    index: int
    score: float
    raw: float | None


@dataclass(frozen=True, slots=True)
class TextRanking:
    """Every text, best first; those that were not read come last, as they came. `model` is the
    name@hash of the bundle that scored."""

    scores: tuple[TextScore, ...]
    model: str
    degraded: tuple[Degradation, ...]
    experiment: Participation | None = None
    # By index, of an interleaved ranking: "A" or "B".
    teams: Mapping[int, str] = field(default_factory=dict)


class TextRanker:
    """Ranks texts; holds no state of its own but references to what does."""

    def __init__(
        self,
        ranker: Ranker,
        models: Models,
        inference: Inference,
        metrics: Metrics,
    ) -> None:
        self._ranker = ranker
        self._models = models
        self._inference = inference
        self._metrics = metrics

    def check(self, model: str) -> None:
        """Raises NotFound where there is a name and no model that scores texts has it."""
        if model:
            _named(self._models.serving, model)

    async def rank(self, query: TextQuery, deadline: Deadline) -> TextRanking:
        """Scores the texts in their order, as many as the deadline affords.

        Raises:
            NotFound: the model that was named is not served.
            Unavailable: no model is served yet, or the one that is failed.
            DeadlineExceeded: not one text could be read in time.
            Overloaded: the queue of the models is full.
        """
        query, unwanted = self._wanted(query)
        serving = self._models.serving
        language = to_be_known(query.query, query.language)
        encoder: EncoderModel | None = None
        notes: list[Degradation] = []
        if query.model:
            named = _named(serving, query.model)
            encoder = named.encoder
            if named.cross_encoder is not None and not knows(named.cross_encoder, language):
                notes.append(_unknown_language(query.model, language))
                encoder = _default_encoder(self._models)
        elif serving.cross_encoder_for(language) is None:
            encoder = _default_encoder(self._models)
        if not any(query.texts):
            ranking = _ranking([None] * len(query.texts), [0.0] * len(query.texts), "", ())
        elif encoder is None:
            ranking = await self._read(query, deadline)
        else:
            ranking = await self._compare(query, encoder, deadline)
        if any(query.texts) and all(score.raw is None for score in ranking.scores):
            raise _nothing_read(ranking.degraded)
        scores = _moved(ranking.scores, query.texts, unwanted) if unwanted else ranking.scores
        return TextRanking(scores, ranking.model, (*notes, *ranking.degraded))

    def _wanted(self, query: TextQuery) -> tuple[TextQuery, tuple[str, ...]]:
        """The query as models are to read it, and what it excludes."""
        found = exclusions(query.query) if query.exclusions else None
        if found is None or not found.what:
            return query, ()
        return replace(query, query=found.rest, language=found.language), found.what

    async def _read(self, query: TextQuery, deadline: Deadline) -> TextRanking:
        """By a cross-encoder: `score` is the logistic function of its logit."""
        ranking = await self._ranker.rank(
            RankQuery(
                query.query,
                _candidates(query.texts),
                RELEVANCE_ALONE,
                language=query.language,
                explain=True,
                bundle=query.model,
                max_reranked=len(query.texts),
                rerank_characters=query.characters,
                request_id=query.request_id,
            ),
            deadline,
        )
        raw: list[float | None] = [None] * len(query.texts)
        for hit in ranking.results:
            if hit.explanation is not None:
                raw[hit.position] = hit.explanation.cross_encoder_logit
        scores = [0.0 if logit is None else _logistic(logit) for logit in raw]
        return _ranking(raw, scores, next(iter(ranking.bundles), ""), ranking.degraded)

    async def _compare(
        self, query: TextQuery, encoder: EncoderModel, deadline: Deadline
    ) -> TextRanking:
        """By an encoder: `score` is (1 + cosine) / 2, as OpenSearch gives it for `cosinesimil`."""
        trace = Trace(self._metrics)
        raw: list[float | None] = [None] * len(query.texts)
        waiting = [place for place, text in enumerate(query.texts) if text]
        # The last of each kind.
        errors: dict[DegradedReason, Exception] = {}
        with trace.stage("score", len(waiting)):
            try:
                vector = (await self._inference.encode_queries(encoder, [query.query], deadline))[0]
                for start in range(0, len(waiting), _CHUNK):
                    places = waiting[start : start + _CHUNK]
                    vectors, failed = await self._inference.read_passages(
                        encoder,
                        [query.texts[place][: query.characters] for place in places],
                        deadline,
                    )
                    cosines = np.clip(vectors @ vector, -1.0, 1.0)
                    for place, cosine in zip(places, cosines.tolist(), strict=True):
                        raw[place] = None if math.isnan(cosine) else cosine
                    errors |= {_reason(error): error for error in failed.values()}
                    if np.isnan(cosines).sum() > len(failed):
                        raise DeadlineExceeded("the time was used up")
            except Exception as error:  # what was read until then is an answer all the same
                errors[_reason(error)] = error
        done = sum(cosine is not None for cosine in raw)
        for reason, found in errors.items():
            why = " in time" if reason is DegradedReason.DEADLINE else f": {found}"
            trace.degrade(reason, f"the encoder read {done} of {len(waiting)} texts{why}")
        scores = [0.0 if cosine is None else (1.0 + cosine) / 2 for cosine in raw]
        return _ranking(raw, scores, encoder.ref, trace.degraded)


def _ranking(
    raw: Sequence[float | None],
    scores: Sequence[float],
    model: str,
    degraded: tuple[Degradation, ...],
) -> TextRanking:
    # By the model's own number: the score's last digits may be the same where it is not.
    best = sorted(range(len(raw)), key=lambda place: -_or_last(raw[place]))
    return TextRanking(
        tuple(TextScore(place, scores[place], raw[place]) for place in best), model, degraded
    )


def _moved(
    scores: Sequence[TextScore], texts: Sequence[str], unwanted: Sequence[str]
) -> tuple[TextScore, ...]:
    """Scores, best first, where titles say of what the query excludes that it is there, or that it
    is not; texts that were not read stay last."""
    read = [score for score in scores if score.raw is not None]
    # Of all of them: a score does not depend on how many texts came before.
    said = mentions([texts[score.index] for score in read], unwanted, most=len(read))
    own = np.array([score.score for score in read])
    moved = [
        replace(score, score=value)
        for score, value in zip(read, raised(lowered(own, said), said).tolist(), strict=True)
    ]
    moved.sort(key=lambda score: (-score.score, -_or_last(score.raw)))
    return (*moved, *scores[len(read) :])


def _or_last(raw: float | None) -> float:
    return -math.inf if raw is None else raw


def _logistic(logit: float) -> float:
    # Without overflow at either end.
    tail = math.exp(-abs(logit))
    return 1.0 / (1.0 + tail) if logit >= 0 else tail / (1.0 + tail)


def _named(serving: Serving, model: str) -> Loaded:
    """What scores texts by that name, or name@hash.

    Raises:
        NotFound: nothing does; the message lists what may be named.
        Unavailable: it is published, and is being loaded.
    """
    rows = [row for row in serving.statuses if row.kind in ("cross_encoder", "encoder")]
    encoders = {name for row in rows if row.kind == "encoder" for name in (row.name, row.ref)}
    try:
        return serving.pick(model, "encoder" if model in encoders else "cross_encoder")
    except NotFound as error:
        served = ", ".join(sorted(row.ref for row in rows))
        raise NotFound(
            f"No model {shown(model)} that scores texts is served. Served: {served or 'none'}. "
            "Name one that is, or publish it with `neuralrank models add`."
        ) from error


def _default_encoder(models: Models) -> EncoderModel:
    try:
        return models.serving.encoder()
    except NotFound as error:
        raise Unavailable(
            f"No model is served that could score this text. {error} The sidecar loads what its "
            "registry holds; ask /readyz."
        ) from error


def _unknown_language(model: str, language: str | None) -> Degradation:
    return Degradation(
        DegradedReason.MODEL_UNAVAILABLE,
        f"{model} does not know the query's language {language or 'unknown'!r}; the encoder "
        "compared query and text",
    )


def _reason(error: Exception) -> DegradedReason:
    if isinstance(error, DeadlineExceeded):
        return DegradedReason.DEADLINE
    return (
        DegradedReason.OVERLOAD
        if isinstance(error, Overloaded)
        else DegradedReason.MODEL_UNAVAILABLE
    )


def _nothing_read(degraded: Sequence[Degradation]) -> NeuralrankError:
    details = "; ".join(note.detail for note in degraded)
    reasons = {note.reason for note in degraded}
    if DegradedReason.OVERLOAD in reasons:
        return Overloaded(f"Not one text was read: {details}. Try again later.")
    if DegradedReason.DEADLINE in reasons:
        return DeadlineExceeded(
            f"Not one text was read in time: {details}. Give more time, or fewer and shorter texts."
        )
    return Unavailable(f"Not one text could be scored: {details}. Keep your own order.")


def _candidates(texts: Sequence[str]) -> Candidates:
    """The texts as candidates of which nothing else is known; their ids are their places."""
    count = len(texts)
    none, no_vectors = np.full(count, np.nan, np.float32), np.zeros((count, 0), np.float32)
    return Candidates.bare([str(place) for place in range(count)], texts, none, no_vectors)
