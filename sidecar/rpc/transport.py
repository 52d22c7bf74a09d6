"""How gRPC itself is set up: sizes, streams, keepalive, age and number of connections."""

from typing import Final

from sidecar.settings import SidecarSettings

__all__ = ["PERMITTED_PING_MS", "server_options"]

# A client that pings more often than this is cut off (ENHANCE_YOUR_CALM). Half of what our own
# client does (`neuralrank.client.channel`), so that a slow network never makes a good client a bad
# one.
PERMITTED_PING_MS: Final = 15_000


def server_options(settings: SidecarSettings, *, shared_port: bool) -> list[tuple[str, int]]:
    """The options of the server.

    Args:
        shared_port: whether other processes of ours listen on the same port.
    """
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Nothing compressed: it is unpacked before its caller is asked for a token, and 60 KB can
        # be 60 MiB. Bit 0 is "as it is".
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", round(settings.handshake_seconds * 1_000)),
        # A peer that vanished without a word (a node that lost its power, a firewall that forgot
        # the connection) is found and its calls are cancelled.
        ("grpc.keepalive_time_ms", round(settings.keepalive_seconds * 1_000)),
        ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout_seconds * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PERMITTED_PING_MS),
        # Two servers on one port would share its requests, unknown to both: only ours may.
        ("grpc.so_reuseport", int(shared_port)),
    ]
    if settings.max_connection_age_seconds:
        options += [
            ("grpc.max_connection_age_ms", round(settings.max_connection_age_seconds * 1_000)),
            ("grpc.max_connection_age_grace_ms", settings.max_deadline_ms + 1_000),
        ]
    return options
