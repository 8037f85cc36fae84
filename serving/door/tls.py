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

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Raises TlsError for a file that cannot be read."""
        ca = None if self.ca is None else _read(self.ca)
        pair = (_read(self.key), _read(self.cert))
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

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


def from_options(cert: Path | None, key: Path | None, ca: Path | None) -> Tls | None:
    """What the command line gave. Raises TlsError for half of it."""
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
