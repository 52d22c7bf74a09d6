"""The methods of `neuralrank.v1.Ranking` on a gRPC server.

Beside the generated function of the same purpose: messages are given to the service as bytes, which
it decodes once their request is let in (`sidecar.rpc.incoming`).
"""

from collections.abc import Callable
from typing import Any

import grpc

from neuralrank.v1 import ranking_pb2 as pb
from sidecar.rpc.incoming import Incoming
from sidecar.rpc.service import RankingService
from sidecar.sizes import MAX_INPUTS

__all__ = ["add_ranking"]


def add_ranking(service: RankingService, server: grpc.aio.Server) -> None:
    """Has the server answer the service's methods."""
    described = pb.DESCRIPTOR.services_by_name["Ranking"]
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _handler(service, method.name, getattr(pb, method.input_type.name)),
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )
        for method in described.methods
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(described.full_name, handlers),)
    )


def _handler(service: RankingService, name: str, kind: Any) -> Callable[[bytes, Any], Any]:
    method = getattr(service, name)
    counted = {"Rank": {"candidates": service.max_candidates}, "Encode": {"inputs": MAX_INPUTS}}
    most = counted.get(name, {})

    async def answer(raw: bytes, context: Any) -> Any:
        return await method(Incoming(raw, kind, most), context)

    return answer
