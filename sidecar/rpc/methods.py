"""The methods of `neuralrank.v1.Ranking` on a gRPC server.

Beside the generated function of the same purpose for three reasons: a message is decoded once its
caller is known, and not before; one that holds far more than is allowed is never decoded; and bytes
that are no message, such as a string of invalid UTF-8, are the caller's fault and not INTERNAL, and
are counted and logged as every other request.
"""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from neuralrank.errors import InvalidInput, Unauthenticated
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.rpc.fields import check_fields
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
        try:
            service.check_caller(context)
            check_fields(raw, kind.DESCRIPTOR, most)
        except (InvalidInput, Unauthenticated) as error:
            return await service.refuse(name, error, context)
        try:
            request = kind.FromString(raw)
        except DecodeError as error:
            found = InvalidInput(
                f"The {len(raw)} bytes of the request are no {kind.DESCRIPTOR.full_name}: {error}. "
                "Strings must be UTF-8; see ranking.proto."
            )
            return await service.refuse(name, found, context)
        return await method(request, context)

    return answer
