"""A gRPC channel to sidecars: TLS, token, balancing, retries."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self

import grpc
import grpc.aio

from neuralrank.errors import InvalidSettings
from neuralrank.settings import Settings

__all__ = ["KEEPALIVE_MS", "OWN_ERROR", "UNHEALTHY", "Access", "Route"]

# Trailing metadata of an error that the sidecar itself gives, with its status; without it gRPC
# speaks, which has UNAVAILABLE for a connection that there is not.
OWN_ERROR: Final = "neuralrank-error"
# What gRPC says where several sidecars are there, and the health of none is SERVING.
UNHEALTHY: Final = "backend unhealthy"
# The sidecar permits a ping every 15 s (`sidecar.rpc.transport`).
KEEPALIVE_MS: Final = 30_000
_MACHINES_OWN: Final = "system"
_TOKEN: Final = re.compile(r"[\x21-\x7e]*")

# UNAVAILABLE means that nothing was done, so asking again, and another one, is safe. CANCELLED by
# the other end means that it stopped before it began; what the caller cancels is never retried.
# gRPC itself ends the attempts at the deadline. Retries stop when half of the last hundred calls
# failed: an outage must not be met with four times the load.
_SERVICE: Final = "neuralrank.v1.Ranking"
_CALLS: Final[dict[str, Any]] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 1},
}
# Of several sidecars those are asked that say that they serve: one that has just been started has
# no models yet, and while it loads them it is slow. One alone is asked whatever it says.
_CALLS_OF_SEVERAL: Final = {**_CALLS, "healthCheckConfig": {"serviceName": _SERVICE}}
_OPTIONS: Final = (
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.max_receive_message_length", 64 * 2**20),
    # The sidecar is on this machine or in the user's network: a proxy would only be in the way.
    ("grpc.enable_http_proxy", 0),
    # gRPC's own second is longer than all attempts of a call together: a process that ended while
    # another listens on its port would fail calls that only needed to connect again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    # A sidecar that vanished without a word is found while a call waits for it.
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True)
class Access:
    """What a secured sidecar asks of its callers. The default is for one that is not secured."""

    # PEM file of the authorities that the sidecar's certificate must come from; "system": those
    # that gRPC trusts anyway. Empty: no TLS.
    ca: str = ""
    # PEM files of this caller's own certificate and key (mTLS). Empty: none.
    certificate: str = ""
    key: str = ""
    # The bearer token. Empty: none.
    token: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise InvalidSettings(
                f"The client's certificate is {self.certificate!r} and its key {self.key!r}; give "
                "both or neither (NEURALRANK_CLIENT_CERTIFICATE, NEURALRANK_CLIENT_KEY)."
            )
        if not _TOKEN.fullmatch(self.token):
            raise InvalidSettings(
                f"The token has {len(self.token)} characters, and among them a blank, a line's end "
                "or one that is not of ASCII, which no header can carry. Give it without "
                "(NEURALRANK_CLIENT_TOKEN)."
            )
        if self.certificate and not self.ca:
            raise InvalidSettings(
                "A client certificate is used in TLS only. Name the sidecar's authority in "
                "NEURALRANK_CLIENT_CA (`system` for public ones) too."
            )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As NEURALRANK_CLIENT_… say.

        Raises:
            InvalidSettings: they don't go together.
        """
        return cls(
            settings.client_ca,
            settings.client_certificate,
            settings.client_key,
            # A file that it was read from may have ended its line.
            settings.client_token.strip(),
        )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """To be sent with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


@dataclass(frozen=True)
class Route:
    """The way to sidecars: where they are, and how they are spoken to."""

    target: str
    options: Sequence[tuple[str, Any]]
    # None: no TLS.
    credentials: grpc.ChannelCredentials | None

    @classmethod
    def to(cls, address: str, access: Access) -> Self:
        """The route to an address.

        Args:
            address: host:port, where a name may stand for several machines; or IP addresses with
                ports, separated by commas. With TLS, those must all have certificates for the
                first of them.

        Raises:
            InvalidSettings: an address or a file can't be used.
        """
        target, options = _target(address)
        if not access.ca:
            return cls(target, options, None)
        roots = None if access.ca == _MACHINES_OWN else _read(access.ca, "NEURALRANK_CLIENT_CA")
        key = certificate = None
        if access.certificate:
            certificate = _read(access.certificate, "NEURALRANK_CLIENT_CERTIFICATE")
            key = _read(access.key, "NEURALRANK_CLIENT_KEY")
        return cls(target, options, grpc.ssl_channel_credentials(roots, key, certificate))

    def open(self) -> grpc.Channel:
        """A channel that spreads its calls over all sidecars, and tries again (within the deadline)
        where one is unavailable."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, self.options)
        return grpc.secure_channel(self.target, self.credentials, self.options)

    def open_async(self) -> grpc.aio.Channel:
        """The same for asyncio. It belongs to the event loop that runs now."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, self.options)
        return grpc.aio.secure_channel(self.target, self.credentials, self.options)


def _target(address: str) -> tuple[str, Sequence[tuple[str, Any]]]:
    several = [part.strip() for part in address.split(",") if part.strip()]
    if not several:
        raise InvalidSettings(
            f"The sidecar's address is {address!r}. Give host:port, as 127.0.0.1:50051 "
            "(NEURALRANK_SIDECAR)."
        )
    if len(several) < 2:
        return several[0], (*_OPTIONS, _service_config(_CALLS))
    try:
        versions = {ip_address(part.rpartition(":")[0].strip("[]")).version for part in several}
    except ValueError as error:
        raise InvalidSettings(
            f"The sidecar's address is {address!r}. Several must be IP addresses with ports, as "
            "10.0.0.7:50051,10.0.0.8:50051; a name that stands for several is given alone."
        ) from error
    if len(versions) > 1:
        raise InvalidSettings(
            f"The sidecar's address is {address!r}, of IPv4 and IPv6. Give those of one kind."
        )
    target = f"ipv{versions.pop()}:{','.join(several)}"
    return target, (
        *_OPTIONS,
        _service_config(_CALLS_OF_SEVERAL),
        # What a certificate is checked against; the list itself is no name.
        ("grpc.default_authority", several[0]),
    )


def _service_config(calls: dict[str, Any]) -> tuple[str, str]:
    return "grpc.service_config", json.dumps(calls)


def _read(path: str, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettings(
            f"{path} can't be read ({error.strerror or error}). Name a readable PEM file in "
            f"{setting}."
        ) from error
