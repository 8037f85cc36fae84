"""Where servers listen, and the header that opens the one behind the door."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import tempfile
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil


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


def claim(ports: Ports, host: str, besides: Collection[int] = ()) -> Ports:
    """The ports, checked to be free; 0 replaced by one that is, but none of `besides`. Raises ServerError."""
    given = [port for port in vars(ports).values() if port]
    for name, port in vars(ports).items():
        if not 0 <= port <= 65535:
            raise ServerError(f"{name} port {port}: ports are numbers from 0 to 65535")
        if port and given.count(port) > 1:
            raise ServerError(f"{name} port {port} is given twice; every port needs a number of its own")
    with ExitStack() as stack:
        found = []
        for name, port in vars(ports).items():
            try:
                listener = stack.enter_context(listen(host, port))
                # What was chosen before is free until it is listened on, and may be chosen again.
                while not port and listener.getsockname()[1] in besides:
                    listener = stack.enter_context(listen(host, port))
            except OSError as error:
                raise ServerError(_sentence(name, port, host, error)) from None
            found.append(listener.getsockname()[1])
        return Ports(*found)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, IPv4 or IPv6. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name of both kinds is IPv4, as most clients take it.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        if port:  # for 0 Linux would choose from half of the ports alone, and sooner one that is promised to another
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is every address
        listener.bind(address)
        # Binding alone does not find one that listens with SO_REUSEADDR too.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def probe_address(grpc_port: int) -> str | None:
    """gRPC address of a Unix socket for this user's own probes, on which no client can use up the connections.

    None where there is no folder that is this user's alone.
    """
    folder = Path(tempfile.gettempdir()) / f"af3-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return f"unix:{folder}/grpc-{grpc_port}" if own else None


def location(host: str, port: int) -> str:
    """host:port, as addresses and URLs write it."""
    try:
        six = ipaddress.ip_address(host).version == 6
    except ValueError:
        six = False
    return f"[{host}]:{port}" if six else f"{host}:{port}"


def _sentence(name: str, port: int, host: str, error: OSError) -> str:
    where = f"{name} port {port} on {host}"
    if isinstance(error, socket.gaierror):
        return f"host '{host}': {error.strerror}; give an address of this machine, such as HOST=127.0.0.1"
    if isinstance(error, PermissionError):
        return f"{where}: {error.strerror}; ports below 1024 need a right of their own, choose a higher one"
    if error.errno != errno.EADDRINUSE:
        return (
            f"{where}: {error.strerror}; give an address of this machine, such as HOST=127.0.0.1 or HOST=::1"
        )
    other = f"{name.upper()}_PORT={min(port + 10, 65535)}"
    return f"{where} is taken{_holder(port)}; stop what listens there or choose another with {other}"


def _holder(port: int) -> str:
    """The process that listens there, if this user may know it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""
