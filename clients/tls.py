"""TLS of the clients: whom to trust, and who we are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from .errors import AudioFlamingoError


@dataclass(frozen=True)
class Tls:
    """PEM files. `ca` signed the server's certificate (None: the system's own roots); `cert` and `key` are
    ours, for a server that asks who comes (mutual TLS).
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises AudioFlamingoError for a file that cannot be read, and for half of a pair."""
        if (self.cert is None) != (self.key is None):
            raise AudioFlamingoError(
                "INVALID_ARGUMENT", "a client certificate needs its key, and a key its certificate; give both"
            )
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


def _read(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise AudioFlamingoError("INVALID_ARGUMENT", f"{file}: {error.strerror}") from None
