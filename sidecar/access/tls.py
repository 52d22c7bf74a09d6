"""The sidecar's TLS: certificates from files, read again when they change."""

import ssl
from pathlib import Path
from typing import Any, Final

import grpc

from neuralrank.errors import InvalidSettings
from sidecar.access.watch import FileWatch
from sidecar.deadline import Clock

__all__ = ["Certificates"]

# What the log calls them.
_WHAT: Final = "certificates"


class Certificates:
    """A server's certificate with its key, and the authorities that clients' certificates must
    come from.

    gRPC asks before every handshake, so a new certificate serves the next connection without a
    restart; connections that are open keep theirs until `max_connection_age_seconds`.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None, clock: Clock) -> None:
        """
        Args:
            certificate: PEM, the server's own certificate first, then intermediate ones.
            key: PEM of its private key, without a passphrase.
            client_ca: PEM of the authorities for clients' certificates. None: clients need none.

        Raises:
            InvalidSettings: a file can't be read, is no PEM, or key and certificate don't match.
        """
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._clock = clock
        self._paths = [certificate, key, *([client_ca] if client_ca else [])]
        self._watch = FileWatch(_WHAT, self._paths, clock)
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`."""
        return grpc.dynamic_ssl_server_credentials(
            self._first, self._fetch, require_client_authentication=self._client_ca is not None
        )

    def context(self) -> ssl.SSLContext:
        """For HTTP, with the same checks: a handshake after a change uses what is new."""
        watch = FileWatch(_WHAT, self._paths, self._clock)
        context = self._context()

        def renewed(connection: ssl.SSLObject, _name: str | None, _context: Any) -> None:
            nonlocal context
            context = watch.renewed(self._context) or context
            connection.context = context

        context.sni_callback = renewed
        return context

    def _context(self) -> ssl.SSLContext:
        self._check()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        if self._client_ca:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What the next handshake uses; None: the same as before. On a thread of gRPC's."""
        # In the middle of a change the key may be of the new certificate and the certificate still
        # the old one. What served goes on serving.
        return self._watch.renewed(self._read)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        while True:
            before = self._watch.signature()
            self._check()
            pair = (self._key.read_bytes(), self._certificate.read_bytes())
            roots = self._client_ca.read_bytes() if self._client_ca else None
            # What was checked is what was read, unless a file changed in between.
            if before == self._watch.signature():
                return grpc.ssl_server_certificate_configuration([pair], roots)

    def _check(self) -> None:
        """gRPC would take what it can't use, and fail at every handshake."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise InvalidSettings(
                f"The certificate {self._certificate} with the key {self._key}"
                + (f" and the client authorities {self._client_ca}" if self._client_ca else "")
                + f" can't be used: {error}. Name readable PEM files that belong together in "
                "NEURALRANK_SIDECAR_TLS_CERTIFICATE, _TLS_KEY and _TLS_CLIENT_CA."
            ) from error


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal."""
    raise ValueError("the key has a passphrase; store it without one")
