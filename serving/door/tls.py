"""Certificates of the door: TLS, and with a CA mutual TLS, for gRPC and HTTP alike."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


class TlsError(Exception):
    """Certificates that cannot be used; the sentence says which and why."""


@dataclass(frozen=True)
class Tls:
    """PEM files. With `ca`, only clients with a certificate that it signed are let in."""

    cert: Path
    key: Path
    ca: Path | None = None

    def grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        """Raises TlsError for a file that cannot be read."""
        ca = None if self.ca is None else _read(self.ca)
        return grpc.ssl_server_certificate_configuration([(_read(self.key), _read(self.cert))], ca)

    def ssl_context(self) -> ssl.SSLContext:
        """Raises TlsError for files that do not make a server's identity."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"--tls-cert, --tls-key or --tls-ca cannot be used: {error}") from None
        return context


class Certificates:
    """The certificates of both servers. `reload` reads the files again; only new connections use the new ones."""

    def __init__(self, tls: Tls):
        """Raises TlsError."""
        self._tls = tls
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self._read()

    def reload(self) -> None:
        """Raises TlsError, and changes nothing."""
        self._read()

    def _read(self) -> None:
        context, configuration = self._tls.ssl_context(), self._tls.grpc_configuration()
        self._context, self._fresh = context, configuration

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """gRPC asks at every handshake whether there is something new."""

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            fresh, self._fresh = self._fresh, None
            return fresh

        first, with_ca = self._fresh, self._tls.ca is not None
        return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=with_ca)

    def ssl_context(self) -> ssl.SSLContext:
        """A context that hands every handshake on to the newest one (OpenSSL asks, with or without a server name)."""
        front = self._tls.ssl_context()

        def newest(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self._context

        front.sni_callback = newest  # type: ignore[assignment]
        return front


def from_options(cert: Path | None, key: Path | None, ca: Path | None) -> Tls | None:
    """The TLS files of the command line. Raises TlsError if only one of certificate and key is given."""
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None:
        raise TlsError("TLS needs both --tls-cert and --tls-key; --tls-ca alone protects nothing")
    return Tls(cert, key, ca)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TlsError(f"{file}: {error.strerror}") from None
