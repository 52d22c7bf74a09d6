"""Clients of the ranking sidecar: `Client` for threads and scripts, `AsyncClient` for asyncio.

They speak the wire contract's own messages; errors are those of `neuralrank.errors`. In other
languages: generated stubs (docs/clients.md).
"""

import asyncio
import math
import queue
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from neuralrank.client.channel import OWN_ERROR, UNHEALTHY, Access, Route
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
from neuralrank.limits import MAX_COLLABORATIVE, MAX_INTERESTS
from neuralrank.settings import Settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["AsyncClient", "Client", "Interest"]

_ERRORS: Final[dict[str, type[NeuralrankError]]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": EncoderMismatch,
    "UNAUTHENTICATED": Unauthenticated,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
# gRPC has one status for a message that is too long, which never is taken, and for too much load.
_TOO_LONG: Final = "larger than max"
# A thread tells the state of a channel, at once; longer it is not waited for.
_STATE_S: Final = 1.0


class Interest(NamedTuple):
    """One of the things that a user likes: `vector` float32 [dimensions] of length 1, and its share
    of the user's attention, in (0, 1]."""

    vector: NDArray[np.float32]
    share: float


class _Caller(ABC):
    """What both clients share: whom they call, with what, and what a refusal means."""

    def __init__(self, address: str, timeout: float = 10.0, access: Access | None = None) -> None:
        """
        Args:
            address: host:port, or IP addresses with ports separated by commas.
            timeout: seconds that one call may take, connecting and trying again included; infinite
                for no end.
            access: TLS and token; None for a sidecar without either.

        Raises:
            InvalidSettings: the address or a file of `access` can't be used.
        """
        self._address = address
        self._timeout = timeout
        self._access = access or Access()
        self._route = Route.to(address, self._access)

    @classmethod
    def of(cls, settings: Settings, timeout: float = 10.0) -> Self:
        """The client for the sidecar that the settings name, with their TLS and token.

        Raises:
            InvalidSettings: as the constructor.
        """
        return cls(settings.sidecar, timeout, Access.of(settings))

    def _closed(self) -> Unavailable:
        return Unavailable(
            f"This client of the sidecar at {self._address} is closed. Close it after its last "
            "call, or make another."
        )

    def _limits(self, timeout: float | None) -> dict[str, Any]:
        seconds = self._timeout if timeout is None else timeout
        return {
            # gRPC takes what is beyond any time for one that has passed.
            "timeout": None if seconds == math.inf else seconds,
            "metadata": self._access.metadata,
        }

    @abstractmethod
    def _connected(self) -> bool:
        """Whether a sidecar is reached now; True where that can't be told."""

    def _error(self, error: grpc.RpcError) -> NeuralrankError:
        status, details = error.code().name, error.details() or ""
        if status == "DEADLINE_EXCEEDED" and details == "Deadline Exceeded":
            # A call that is tried again until its time is up does not say what it failed by.
            if not self._connected():
                return self._unreachable(
                    "No connection to one that serves came about within the timeout; give a longer "
                    "one if it is there."
                )
            return DeadlineExceeded(
                f"The sidecar at {self._address} did not answer in time. Give the call a longer "
                "timeout, or see the sidecar's log and load."
            )
        if status == "RESOURCE_EXHAUSTED" and _TOO_LONG in details:
            return InvalidInput(
                f"The request is longer than the sidecar at {self._address} takes ({details}). "
                "Send fewer or shorter candidates, or raise NEURALRANK_SIDECAR_MAX_MESSAGE_BYTES."
            )
        if status in _ERRORS:
            return _ERRORS[status](details)
        told: Any = error.trailing_metadata()
        if status == "UNAVAILABLE" and any(name == OWN_ERROR for name, _ in told or ()):
            return Unavailable(details)
        if status == "UNAVAILABLE" and UNHEALTHY in details:
            return Unavailable(
                f"None of the sidecars at {self._address} serves: they have no models yet, or are "
                "stopping. See `neuralrank models status`, for each, and their logs."
            )
        if status in ("UNAVAILABLE", "CANCELLED"):
            return self._unreachable(f"gRPC says: {details}")
        return Unavailable(f"The sidecar at {self._address} failed ({status}): {details}")

    def _unreachable(self, why: str) -> Unavailable:
        tls = (
            "It is called with TLS: see that it has TLS too, and a valid certificate for this "
            "name from the authority in NEURALRANK_CLIENT_CA."
            if self._access.ca
            else "If it has TLS, name its authority in NEURALRANK_CLIENT_CA."
        )
        return Unavailable(
            f"The sidecar at {self._address} can't be reached. Start it (`neuralrank up`), or "
            f"name the right address in NEURALRANK_SIDECAR. {tls} {why}"
        )


class Client(_Caller):
    """A channel to one sidecar or several; close it, or use it in `with`. Threads may share it.

    Calls are spread over all of them. Where one is unavailable, the call is tried again, with
    another one if there is one, up to three times within the timeout.
    """

    def __init__(self, address: str, timeout: float = 10.0, access: Access | None = None) -> None:
        super().__init__(address, timeout, access)
        self._channel = self._route.open()
        self._ended = False
        self._stub: Any = pb_grpc.RankingStub(self._channel)  # type: ignore[no-untyped-call]

    def rank(self, request: pb.RankRequest, *, timeout: float | None = None) -> pb.RankResponse:
        """The candidates, filtered and ranked.

        Args:
            timeout: seconds for this call; None: the client's.

        Raises:
            NeuralrankError: as the contract says (InvalidInput, NotFound, Overloaded, …), or
                Unavailable where the sidecar does not answer.
        """
        return self._call(self._stub.Rank, request, timeout)  # type: ignore[no-any-return]

    def encode(
        self,
        *,
        queries: Sequence[str] = (),
        passages: Sequence[str] = (),
        items: Sequence[str] = (),
        users: Sequence[str] = (),
        images: Sequence[bytes] = (),
        photos_of: Sequence[str] = (),
        index: str = "",
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[NDArray[np.float32]]:
        """Vectors of length 1 of all that was given, in the order of the parameters; an empty one
        for a user without events and an item without vector.

        Args:
            images: what the files of photos hold; with these or `photos_of` nothing else may come.
            photos_of: ids of items whose photos are meant.
            index: where the vectors are to be searched; needed for items and users.
            encoder: name or name@hash; "" for the index's own, else the sidecar's default.
            timeout: seconds for this call; None: the client's.

        Raises:
            EncoderMismatch: the index holds vectors of another encoder.
            InvalidInput: one text or file is given where a list of them is meant.
            NeuralrankError: as `rank`.
        """
        request = _to_encode(queries, passages, items, users, images, photos_of, index, encoder)
        return _vectors(self._call(self._stub.Encode, request, timeout))

    def interests(
        self,
        user: str,
        *,
        index: str,
        most: int = 5,
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[Interest]:
        """What a user likes told apart, the largest interest first; none for a user without events.

        Neighbours of each find what those of the user's one vector miss.

        Args:
            index: where the vectors are to be searched.
            most: how many at most, 1 to 8.
            encoder, timeout: as of `encode`.

        Raises:
            EncoderMismatch: the index holds vectors of another encoder.
            NeuralrankError: as `rank`.
        """
        request = _of_user(user, index, encoder, interests=_within(most, MAX_INTERESTS))
        return _interests(self._call(self._stub.Encode, request, timeout))

    def collaborative(
        self,
        user: str,
        *,
        index: str,
        most: int = 50,
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[str]:
        """Ids of items that those who did the same as a user have, likeliest first, none that the
        user has bought or blocked; of one who has done nothing yet that says anything, what most
        have. None where no personal ranker is in service that knows.

        Args:
            index: where the user's items are looked up.
            most: how many at most, 1 to 1,000.
            encoder, timeout: as of `encode`.

        Raises:
            NeuralrankError: as `interests`.
        """
        request = _of_user(user, index, encoder, collaborative=_within(most, MAX_COLLABORATIVE))
        return _collaborative(self._call(self._stub.Encode, request, timeout))

    def model_status(self, *, timeout: float | None = None) -> pb.ModelStatusResponse:
        """Which bundles serve and which were refused. Raises Unavailable."""
        return self._call(self._stub.ModelStatus, pb.ModelStatusRequest(), timeout)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends the calls that are under way, which raise Unavailable, and closes the channel."""
        self._ended = True
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

    def _connected(self) -> bool:
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        self._channel.subscribe(states.put)
        try:
            return states.get(timeout=_STATE_S) is grpc.ChannelConnectivity.READY
        except queue.Empty:  # the channel was closed just now
            return True
        finally:
            self._channel.unsubscribe(states.put)

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        try:
            return method(request, **self._limits(timeout))
        except grpc.RpcError as error:
            raise (self._closed() if self._ended else self._error(error)) from error
        except ValueError as error:
            if not self._ended:
                raise
            raise self._closed() from error


class AsyncClient(_Caller):
    """As `Client`, for asyncio: the same methods, awaited. Cancelling one cancels the call, and the
    sidecar drops what it had not yet begun.

    It may be made anywhere; the event loop that runs at the first call is the one that it belongs
    to. Close it there, or use it in `async with`.
    """

    _channel: grpc.aio.Channel | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _ended = False

    async def rank(
        self, request: pb.RankRequest, *, timeout: float | None = None
    ) -> pb.RankResponse:
        """As `Client.rank`."""
        return await self._call("Rank", request, timeout)  # type: ignore[no-any-return]

    async def encode(
        self,
        *,
        queries: Sequence[str] = (),
        passages: Sequence[str] = (),
        items: Sequence[str] = (),
        users: Sequence[str] = (),
        images: Sequence[bytes] = (),
        photos_of: Sequence[str] = (),
        index: str = "",
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[NDArray[np.float32]]:
        """As `Client.encode`."""
        request = _to_encode(queries, passages, items, users, images, photos_of, index, encoder)
        return _vectors(await self._call("Encode", request, timeout))

    async def interests(
        self,
        user: str,
        *,
        index: str,
        most: int = 5,
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[Interest]:
        """As `Client.interests`."""
        request = _of_user(user, index, encoder, interests=_within(most, MAX_INTERESTS))
        return _interests(await self._call("Encode", request, timeout))

    async def collaborative(
        self,
        user: str,
        *,
        index: str,
        most: int = 50,
        encoder: str = "",
        timeout: float | None = None,
    ) -> list[str]:
        """As `Client.collaborative`."""
        request = _of_user(user, index, encoder, collaborative=_within(most, MAX_COLLABORATIVE))
        return _collaborative(await self._call("Encode", request, timeout))

    async def model_status(self, *, timeout: float | None = None) -> pb.ModelStatusResponse:
        """As `Client.model_status`."""
        return await self._call("ModelStatus", pb.ModelStatusRequest(), timeout)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Ends the calls that are under way, which raise Unavailable, and closes the channel."""
        self._ended = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _connected(self) -> bool:
        return self._channel is None or self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def _call(self, method: str, request: Any, timeout: float | None) -> Any:
        if self._ended:
            raise self._closed()
        if self._channel is None:
            self._loop = asyncio.get_running_loop()
            self._channel = self._route.open_async()
            self._stub: Any = pb_grpc.RankingStub(self._channel)  # type: ignore[no-untyped-call]
        if self._loop is not asyncio.get_running_loop():
            raise InvalidInput(
                "This AsyncClient belongs to the event loop of its first call, and another one "
                "runs. Make one for each loop, or use Client, which needs none."
            )
        try:
            return await getattr(self._stub, method)(request, **self._limits(timeout))
        except grpc.RpcError as error:
            raise (self._closed() if self._ended else self._error(error)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            # Whoever cancels the caller's task counts there; the channel that is closed does not.
            if self._ended and task is not None and not task.cancelling():
                raise self._closed() from error
            raise


def _to_encode(
    queries: Sequence[str],
    passages: Sequence[str],
    items: Sequence[str],
    users: Sequence[str],
    images: Sequence[bytes],
    photos_of: Sequence[str],
    index: str,
    encoder: str,
) -> pb.EncodeRequest:
    given = {
        "queries": queries,
        "passages": passages,
        "items": items,
        "users": users,
        "images": images,
        "photos_of": photos_of,
    }
    for name, values in given.items():
        # It would be taken for a sequence of its characters, each of them a text.
        if isinstance(values, str | bytes):
            what = f"one text, {values[:40]!r}" if isinstance(values, str) else "one file"
            raise InvalidInput(f"{name} is {what}; allowed is a list: {name}=[…].")
    with _unicode():
        inputs = [
            *(pb.EncodeInput(query=text) for text in queries),
            *(pb.EncodeInput(passage=text) for text in passages),
            *(pb.EncodeInput(item_id=name) for name in items),
            *(pb.EncodeInput(user=pb.User(id=name)) for name in users),
            *(pb.EncodeInput(image=image) for image in images),
            *(pb.EncodeInput(photo_of=name) for name in photos_of),
        ]
        return pb.EncodeRequest(inputs=inputs, index=index, encoder=encoder)


@contextmanager
def _unicode() -> Iterator[None]:
    """Half of a surrogate pair, as JSON may have one, is a text in Python and none in UTF-8."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{error.object[:40]!r} has half a surrogate pair at character {error.start}, which is "
            "no Unicode. Leave it out, or send the whole pair."
        ) from error


def _vectors(answer: pb.EncodeResponse) -> list[NDArray[np.float32]]:
    return [_vector(made.vector) for made in answer.encodings]


def _of_user(
    user: str, index: str, encoder: str, *, interests: int = 0, collaborative: int = 0
) -> pb.EncodeRequest:
    """For what there is of a user besides the one vector, so many at most."""
    with _unicode():
        wanted = pb.EncodeInput(
            user=pb.User(id=user), interests=interests, collaborative=collaborative
        )
        return pb.EncodeRequest(inputs=[wanted], index=index, encoder=encoder)


def _within(most: int, allowed: int) -> int:
    """0 would not ask at all, and what is beyond a uint32 can't be sent."""
    if not 1 <= most <= allowed:
        raise InvalidInput(f"most is {most}; allowed are 1 to {allowed:,}.")
    return most


def _interests(answer: pb.EncodeResponse) -> list[Interest]:
    made = answer.encodings[0]
    return [Interest(_vector(interest.vector), interest.share) for interest in made.interests]


def _collaborative(answer: pb.EncodeResponse) -> list[str]:
    return list(answer.encodings[0].collaborative)


def _vector(packed: bytes) -> NDArray[np.float32]:
    return np.frombuffer(packed, "<f4").astype(np.float32)
