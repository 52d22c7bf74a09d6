"""From `sidecar.domain` to protobuf."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Encoding, Explanation, Floats, Ranking
from sidecar.models.serving import Status

__all__ = ["write_encodings", "write_ranking", "write_status"]

# Fields of an explanation that may be absent.
_OPTIONAL: Final = (
    "relevance", "affinity", "retrieval", "cross_encoder_logit", "query_similarity",
    "user_similarity", "image_similarity", "retrieval_score",
)  # fmt: skip


def write_ranking(ranking: Ranking, *, explain: bool, request_id: str) -> pb.RankResponse:
    """The answer on the wire; what was dropped is listed only with `explain`."""
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
    add = response.results.add
    for hit in ranking.results:
        message = add(id=hit.id, score=hit.score, retrieval_position=hit.position)
        if hit.team:
            message.team = hit.team
        if hit.explanation is not None:
            _explain(message.explanation, hit.explanation)
    return response


def _explain(message: pb.Explanation, explanation: Explanation) -> None:
    """Fills a message in place, field by field: three times as fast as making it and putting it in,
    and there may be a thousand."""
    for name in _OPTIONAL:
        value = getattr(explanation, name)
        if value is not None:
            setattr(message, name, value)
    weights = message.weights
    weights.relevance = explanation.weights.relevance
    weights.affinity = explanation.weights.affinity
    weights.retrieval = explanation.weights.retrieval
    if explanation.cross_encoder_logit is not None:
        weights.cross_encoder = explanation.weights.cross_encoder
    if explanation.because_of:
        message.because_of.extend(explanation.because_of)
    message.summary = explanation.summary


def write_encodings(encodings: Sequence[Encoding], encoder: str) -> pb.EncodeResponse:
    """Vectors packed as little-endian float32."""
    lengths = [len(encoding.vector) for encoding in encodings if encoding.vector is not None]
    return pb.EncodeResponse(
        encodings=[
            pb.Encoding(missing=encoding.missing, collaborative=encoding.collaborative)
            if encoding.vector is None
            else pb.Encoding(
                vector=_packed(encoding.vector),
                interests=[
                    pb.Interest(vector=_packed(one.vector), share=one.share)
                    for one in encoding.interests
                ],
                collaborative=encoding.collaborative,
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
