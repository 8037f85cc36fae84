"""Where servers listen, and the header that opens the one behind the door."""

from __future__ import annotations

import socket
from dataclasses import dataclass


class ServerError(Exception):
    """The server could not be started; the sentence says why and what to do."""


class ServerCrashed(ServerError):
    """It was ended by a signal while it started, which may not happen again."""


@dataclass(frozen=True)
class Ports:
    """Where the server listens. 0 lets the operating system choose."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


DEFAULT_PORTS = Ports()
KEY_HEADER = "af3-key"  # opens the Triton behind the door


def claim(ports: Ports, host: str) -> Ports:
    """The ports, checked to be free; 0 replaced by one that is."""
    sockets = []
    try:
        for name, port in vars(ports).items():
            opened = socket.socket()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sockets.append(opened)
            try:
                opened.bind((host, port))
            except OSError:
                raise ServerError(
                    f"{name} port {port} on {host} is taken; stop what listens there or choose another with"
                    f" {name.upper()}_PORT={port + 10}"
                ) from None
        return Ports(*(opened.getsockname()[1] for opened in sockets))
    finally:
        for opened in sockets:
            opened.close()
