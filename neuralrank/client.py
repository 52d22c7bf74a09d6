"""A small synchronous client of the ranking sidecar, for commands and scripts.

It speaks the wire contract's own messages; errors are those of `neuralrank.errors`.
A service that ranks many requests uses the generated stubs on a channel of its own.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from neuralrank.channel import Access, open_channel
from neuralrank.errors import (
    DeadlineExceeded,
    EncoderMismatch,
    InvalidInput,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["Client"]

_ERRORS: Final[dict[str, type[NeuralrankError]]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": EncoderMismatch,
    "UNAUTHENTICATED": Unauthenticated,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
# What the sidecar itself says when it is there and can't answer; else it is gRPC that speaks.
_ITS_OWN_WORDS: Final = ("Bundle", "OpenSearch", "This sidecar")


class Client:
    """A channel to one sidecar or several; close it, or use it in `with`.

    Calls are spread over all of them. Where one is unavailable, the call is tried again, with
    another one if there is one, up to three times within the timeout.
    """

    def __init__(self, address: str, timeout: float = 10.0, access: Access | None = None) -> None:
        """
        Args:
            address: host:port, or IP addresses with ports separated by commas.
            timeout: seconds that one call may take, connecting and trying again included.
            access: TLS and token; None for a sidecar without either.

        Raises:
            InvalidSettings: the address or a file of `access` can't be used.
        """
        self._address = address
        self._timeout = timeout
        self._access = access or Access()
        self._channel = open_channel(address, self._access)
        self._stub: Any = pb_grpc.RankingStub(self._channel)  # type: ignore[no-untyped-call]

    @classmethod
    def of(cls, settings: Settings, timeout: float = 10.0) -> Self:
        """The client for the sidecar that the settings name, with their TLS and token.

        Raises:
            InvalidSettings: as the constructor.
        """
        return cls(settings.sidecar, timeout, Access.of(settings))

    def rank(self, request: pb.RankRequest) -> pb.RankResponse:
        """The candidates, filtered and ranked.

        Raises:
            NeuralrankError: as the contract says (InvalidInput, NotFound, Overloaded, …), or
                Unavailable where the sidecar does not answer.
        """
        return self._call(self._stub.Rank, request)  # type: ignore[no-any-return]

    def encode(
        self,
        *,
        queries: Sequence[str] = (),
        passages: Sequence[str] = (),
        items: Sequence[str] = (),
        users: Sequence[str] = (),
        index: str = "",
        encoder: str = "",
    ) -> list[NDArray[np.float32]]:
        """Vectors of length 1 of all that was given, in the order of the parameters; an empty one
        for a user without events and an item without vector.

        Args:
            index: where the vectors are to be searched; needed for items and users.
            encoder: name or name@hash; "" for the index's own, else the sidecar's default.

        Raises:
            EncoderMismatch: the index holds vectors of another encoder.
            NeuralrankError: as `rank`.
        """
        inputs = [
            *(pb.EncodeInput(query=text) for text in queries),
            *(pb.EncodeInput(passage=text) for text in passages),
            *(pb.EncodeInput(item_id=name) for name in items),
            *(pb.EncodeInput(user=pb.User(id=name)) for name in users),
        ]
        request = pb.EncodeRequest(inputs=inputs, index=index, encoder=encoder)
        answer = self._call(self._stub.Encode, request)
        return [
            np.frombuffer(encoding.vector, "<f4").astype(np.float32)
            for encoding in answer.encodings
        ]

    def model_status(self) -> pb.ModelStatusResponse:
        """Which bundles serve and which were refused. Raises Unavailable."""
        return self._call(self._stub.ModelStatus, pb.ModelStatusRequest())  # type: ignore[no-any-return]

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._access.metadata)
        except grpc.RpcError as error:
            raise self._error(error.code().name, error.details() or "") from error

    def _error(self, status: str, details: str) -> NeuralrankError:
        if status in _ERRORS:
            return _ERRORS[status](details)
        if status == "UNAVAILABLE" and details.startswith(_ITS_OWN_WORDS):
            return Unavailable(details)
        if status in ("UNAVAILABLE", "CANCELLED"):
            tls = (
                "It is called with TLS: see that it has TLS too, and a valid certificate for this "
                "name from the authority in NEURALRANK_CLIENT_CA."
                if self._access.ca
                else "If it has TLS, name its authority in NEURALRANK_CLIENT_CA."
            )
            return Unavailable(
                f"The sidecar at {self._address} can't be reached. Start it (`neuralrank up`), or "
                f"name the right address in NEURALRANK_SIDECAR. {tls} gRPC says: {details}"
            )
        return Unavailable(f"The sidecar at {self._address} failed ({status}): {details}")
