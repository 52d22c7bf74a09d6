"""`neuralrank-sidecar-check ready|live`: asks the sidecar of this machine how it is, for probes
that can't ask by themselves: Kubernetes has no certificate to show where clients need one.

It reads the variables that the sidecar was started with. It is run every few seconds beside a busy
service, so it imports next to nothing: some 30 ms of a core.
"""

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

__all__ = ["check", "main"]

_PATHS: Final = {"ready": "/readyz", "live": "/healthz"}
_SECONDS: Final = 5.0
_PREFIX: Final = "NEURALRANK_SIDECAR_"
_USAGE: Final = 2
# What a sidecar that listens on every address is called by from its own machine.
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def check(question: str, environment: Mapping[str, str]) -> str:
    """What is wrong; "" where the answer is yes.

    Args:
        question: "ready", whether requests should be sent to it: models are warm and it is not
            stopping; "live", whether its event loop answers at all, with models or without. With
            TLS a handshake is an answer, one that is refused too: certificate and key may be in
            the middle of a change, through which the sidecar serves on.
        environment: NEURALRANK_SIDECAR_HTTP_LISTEN, _TLS_CERTIFICATE, _TLS_KEY and _PROCESSES are
            read; of several processes each is asked.
    """
    host, colon, port = environment.get(f"{_PREFIX}HTTP_LISTEN", "").rpartition(":")
    if not colon or not port.isdecimal():
        return f"{_PREFIX}HTTP_LISTEN is no host:port; the sidecar is asked over HTTP, so set it."
    host = host.strip("[]")
    processes = int(environment.get(f"{_PREFIX}PROCESSES") or "1")
    shakes_hands = question == "live" and bool(environment.get(f"{_PREFIX}TLS_CERTIFICATE"))
    try:
        tls = None if shakes_hands else _context(environment)
        for number in range(processes):
            where = (_ANYWHERE.get(host, host), int(port) + number)
            if shakes_hands:
                _shake_hands(*where)
                continue
            status = _status(*where, _PATHS[question], tls)
            if status != http.client.OK:
                return f"{where[0]}:{where[1]} is not {question}: HTTP {status}."
    except (OSError, http.client.HTTPException) as error:
        return f"the sidecar does not answer: {error!r}."
    return ""


def _status(host: str, port: int, path: str, tls: ssl.SSLContext | None) -> int:
    connection = (
        http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=tls)
        if tls
        else http.client.HTTPConnection(host, port, timeout=_SECONDS)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _shake_hands(host: str, port: int) -> None:
    """Begins a connection, without a certificate and whatever that of the sidecar is.

    Raises:
        OSError: nobody answered.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = socket.create_connection((host, port), timeout=_SECONDS)
    # It may be refused, as of TLS 1.2 where clients need certificates. A loop that hangs does not
    # even that: the time is over, which is no SSLError.
    with connection, suppress(ssl.SSLError):
        context.wrap_socket(connection).close()


def _context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Trusts the sidecar's own certificate, whatever name it is for, and shows it."""
    certificate = environment.get(f"{_PREFIX}TLS_CERTIFICATE")
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    context.load_cert_chain(certificate, environment.get(f"{_PREFIX}TLS_KEY"))
    return context


def main() -> None:
    """Exits with 0 for yes, 1 for no with the reason on stderr, 2 where it was not asked so."""
    if len(sys.argv) != 2 or sys.argv[1] not in _PATHS:
        print(f"usage: neuralrank-sidecar-check {'|'.join(_PATHS)}", file=sys.stderr)
        sys.exit(_USAGE)
    problem = check(sys.argv[1], os.environ)
    if problem:
        print(f"neuralrank-sidecar-check: {problem}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
