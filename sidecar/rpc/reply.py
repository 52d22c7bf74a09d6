"""From `sidecar.domain` to protobuf."""

from collections.abc import Sequence
from dataclasses import asdict

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Encoding, Explanation, Floats, Ranking, Weights
from sidecar.models.serving import Status

__all__ = ["write_encodings", "write_ranking", "write_status"]


def write_ranking(
    ranking: Ranking, *, explain: bool, request_id: str, text_characters: int
) -> pb.RankResponse:
    """The answer on the wire; what was dropped is listed only with `explain`.

    Args:
        text_characters: as in the contract.
    """
    response = pb.RankResponse(
        dropped=[
            pb.DroppedCandidate(
                id=drop.id,
                reason=f"DROP_REASON_{drop.reason.name}",
                detail=drop.detail,
            )
            for drop in (ranking.dropped if explain else ())
        ],
        total_dropped=len(ranking.dropped),
        degraded=[
            pb.Degradation(
                reason=f"DEGRADED_REASON_{entry.reason.name}",
                detail=entry.detail,
            )
            for entry in ranking.degraded
        ],
        stages=[
            pb.StageReport(
                name=stage.name, candidates=stage.candidates, milliseconds=stage.milliseconds
            )
            for stage in ranking.stages
        ],
        bundles=ranking.bundles,
        request_id=request_id,
        blocked_items=ranking.blocked,
        text_characters=text_characters,
    )
    if ranking.experiment is not None:
        joined = ranking.experiment
        response.experiment.CopyFrom(
            pb.Participation(
                name=joined.name,
                mode=f"EXPERIMENT_MODE_{joined.mode.name}",
                arm=joined.arm,
                left_out=joined.left_out,
            )
        )
    add, explanations = response.results.add, _Explanations()
    for hit in ranking.results:
        message = add(id=hit.id, score=hit.score, retrieval_position=hit.position)
        if hit.team:
            message.team = hit.team
        if hit.explanation is not None:
            explanations.write(hit.explanation, message.explanation)
    return response


class _Explanations:
    """Writes explanations, of which there may be a thousand, in place: in half of the time that it
    takes to make each and put it in.

    What many have in common is made once, as bytes: such messages one after the other are, to
    protobuf, one message with the fields of all.
    """

    def __init__(self) -> None:
        self._weights: dict[tuple[Weights, bool], bytes] = {}
        self._because_of = _BecauseOf()

    def write(self, explanation: Explanation, message: pb.Explanation) -> None:
        (
            relevance, affinity, retrieval, weights, logit, query_similarity, user_similarity,
            image_similarity, retrieval_score, because_of, summary, novelty,
        ) = explanation  # fmt: skip
        common = self._weighted(weights, logit is not None)
        for item in because_of:
            common += self._because_of[item]
        message.MergeFromString(common)
        if relevance is not None:
            message.relevance = relevance
        if affinity is not None:
            message.affinity = affinity
        if retrieval is not None:
            message.retrieval = retrieval
        if logit is not None:
            message.cross_encoder_logit = logit
        if query_similarity is not None:
            message.query_similarity = query_similarity
        if user_similarity is not None:
            message.user_similarity = user_similarity
        if image_similarity is not None:
            message.image_similarity = image_similarity
        if retrieval_score is not None:
            message.retrieval_score = retrieval_score
        if novelty is not None:
            message.novelty = novelty
        message.summary = summary

    def _weighted(self, weights: Weights, read: bool) -> bytes:
        key = weights, read
        if (known := self._weights.get(key)) is None:
            made = pb.Weights(
                relevance=weights.relevance,
                affinity=weights.affinity,
                retrieval=weights.retrieval,
                cross_encoder=weights.cross_encoder if read else None,
                diversity=weights.diversity or None,
            )
            known = self._weights[key] = pb.Explanation(weights=made).SerializeToString()
        return known


class _BecauseOf(dict[str, bytes]):
    def __missing__(self, item: str) -> bytes:
        made = self[item] = pb.Explanation(because_of=[item]).SerializeToString()
        return made


def write_encodings(encodings: Sequence[Encoding], encoder: str) -> pb.EncodeResponse:
    """Vectors packed as little-endian float32."""
    lengths = [len(encoding.vector) for encoding in encodings if encoding.vector is not None]
    return pb.EncodeResponse(
        encodings=[
            pb.Encoding(
                vector=b"" if encoding.vector is None else _packed(encoding.vector),
                missing=encoding.missing,
                interests=[
                    pb.Interest(vector=_packed(one.vector), share=one.share)
                    for one in encoding.interests
                ],
                collaborative=encoding.collaborative,
                excluded=encoding.excluded,
            )
            for encoding in encodings
        ],
        encoder=encoder,
        dimensions=lengths[0] if lengths else 0,
    )


def _packed(vector: Floats) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def write_status(statuses: Sequence[Status]) -> pb.ModelStatusResponse:
    return pb.ModelStatusResponse(
        bundles=[
            pb.BundleStatus(
                name=status.name,
                hash=status.hash,
                kind=status.kind,
                languages=status.languages,
                state=f"BUNDLE_STATE_{status.state.name}",
                reason=status.reason,
                backend=status.backend,
                serving_since_ms=status.serving_since_ms,
                is_default=status.is_default,
                roles=[f"BUNDLE_ROLE_{role.name}" for role in status.roles],
                percent=status.percent,
                agreement=pb.Agreement(**asdict(status.agreement)) if status.agreement else None,
            )
            for status in statuses
        ]
    )
