"""A request as it came: bytes that nobody has looked at yet.

Decoded beside gRPC's generated functions, for three reasons: a message is decoded once its request
is let in, and not before; one that holds far more than is allowed is never decoded; and bytes that
are no message, such as a string of invalid UTF-8, are the caller's fault and not INTERNAL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from neuralrank.errors import InvalidInput
from sidecar.rpc.fields import check_fields

__all__ = ["Incoming"]

_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True)
class Incoming(Generic[_Message]):
    """`most`: how often a repeated field of the message may come, by its name."""

    raw: bytes
    kind: type[_Message]
    most: Mapping[str, int] = field(default_factory=dict)

    def decode(self) -> _Message:
        """The message.

        Raises:
            InvalidInput: it holds more than is allowed, or is none.
        """
        check_fields(self.raw, self.kind.DESCRIPTOR, self.most)
        try:
            return self.kind.FromString(self.raw)
        except DecodeError as error:
            raise InvalidInput(
                f"The {len(self.raw)} bytes of the request are no "
                f"{self.kind.DESCRIPTOR.full_name}: {error}. Strings must be UTF-8; see "
                "ranking.proto."
            ) from error
