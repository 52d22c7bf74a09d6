"""From `sidecar.domain` to protobuf."""

from collections.abc import Sequence

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Encoding, Explanation, Ranking
from sidecar.serving import Status

__all__ = ["write_encodings", "write_ranking", "write_status"]


def write_ranking(ranking: Ranking, *, explain: bool, request_id: str) -> pb.RankResponse:
    """The answer on the wire; what was dropped is listed only with `explain`."""
    return pb.RankResponse(
        results=[
            pb.RankedCandidate(id=hit.id, score=hit.score, retrieval_position=hit.position)
            if hit.explanation is None
            else pb.RankedCandidate(
                id=hit.id,
                score=hit.score,
                retrieval_position=hit.position,
                explanation=_explanation(hit.explanation),
            )
            for hit in ranking.results
        ],
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
    )


def _explanation(explanation: Explanation) -> pb.Explanation:
    return pb.Explanation(
        relevance=explanation.relevance,
        affinity=explanation.affinity,
        retrieval=explanation.retrieval,
        weights=pb.Weights(
            relevance=explanation.weights.relevance,
            affinity=explanation.weights.affinity,
            retrieval=explanation.weights.retrieval,
        ),
        cross_encoder_logit=explanation.cross_encoder_logit,
        query_similarity=explanation.query_similarity,
        user_similarity=explanation.user_similarity,
        retrieval_score=explanation.retrieval_score,
        because_of=explanation.because_of,
        summary=explanation.summary,
    )


def write_encodings(
    encodings: Sequence[Encoding], encoder: str, dimensions: int
) -> pb.EncodeResponse:
    """Vectors packed as little-endian float32."""
    return pb.EncodeResponse(
        encodings=[
            pb.Encoding(missing=encoding.missing)
            if encoding.vector is None
            else pb.Encoding(vector=encoding.vector.astype("<f4", copy=False).tobytes())
            for encoding in encodings
        ],
        encoder=encoder,
        dimensions=dimensions,
    )


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
            )
            for status in statuses
        ]
    )
