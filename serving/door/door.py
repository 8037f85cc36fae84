"""The door at work: an event loop in a thread of its own, with gRPC, HTTP and metrics on it."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc.aio

from serving.address import Ports
from serving.door.admission import DEFAULT_LIMITS, Admission, Limits
from serving.door.grpc_door import GrpcDoor
from serving.door.http_door import HEAD_BYTES, HttpDoor, MetricsDoor
from serving.door.metrics import DoorMetrics
from serving.door.tls import Tls
from serving.door.upstream import Upstream

START_TIMEOUT_S = 10.0
MAX_CONNECTION_AGE_MS = 3_600_000


@dataclass(frozen=True)
class Behind:
    """The Triton that the door stands before, on loopback."""

    ports: Ports
    key: str
    host: str = "127.0.0.1"


class Door:
    """Listens from construction on; nobody is let in before `ready` is set. Use it as a context manager."""

    def __init__(
        self, behind: Behind, host: str, ports: Ports, limits: Limits = DEFAULT_LIMITS, tls: Tls | None = None
    ):
        """`ports` must be free ones (`serving.address.claim`). Raises TlsError, OSError."""
        self.host = host
        self.ports = ports
        self.admission = Admission(limits)
        self.metrics = DoorMetrics(lambda: self.admission.in_flight, lambda: float(self.admission.ready))
        self._behind = behind
        self._tls = tls
        self._credentials = None if tls is None else tls.grpc_credentials()
        self._ssl = None if tls is None else tls.ssl_context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._thread.start()
        self._call(self._open()).result(START_TIMEOUT_S)

    @property
    def url(self) -> str:
        """gRPC address, as clients take it."""
        return f"{self.host}:{self.ports.grpc}"

    def drain(self, timeout_s: float) -> int:
        """Let nobody in and wait for those inside; how many had to be ended, with an error, when time was up."""
        self.admission.draining = True
        end = time.monotonic() + timeout_s
        while self.admission.in_flight and time.monotonic() < end:
            time.sleep(0.05)
        left = self.admission.in_flight
        self._call(self._grpc_door.end_all()).result(START_TIMEOUT_S)
        return left

    def close(self) -> None:
        """Stop listening."""
        self._call(self._shut()).result(START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _open(self) -> None:
        behind, limits = self._behind, self.admission.limits
        self._upstream = Upstream(f"{behind.host}:{behind.ports.grpc}", behind.key)
        self._grpc_door = GrpcDoor(self._upstream, self.admission, self.metrics)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # Who is gone without a word, and who stays without reading, leaves in the end.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", int(1000 * limits.timeout_s)),
            ),
            # Beyond that RESOURCE_EXHAUSTED, before a byte of the request is kept.
            maximum_concurrent_rpcs=4 * limits.in_flight,
        )
        self._server.add_generic_rpc_handlers((self._grpc_door,))
        if self._credentials is None:
            self._server.add_insecure_port(self.url)
        else:
            self._server.add_secure_port(self.url, self._credentials)
        await self._server.start()
        http = HttpDoor(
            behind.host, behind.ports.http, behind.key, self._upstream, self.admission, self.metrics
        )
        metrics = MetricsDoor(behind.host, behind.ports.metrics, self.metrics)
        self._listeners = [
            await asyncio.start_server(
                http.handle, self.host, self.ports.http, limit=HEAD_BYTES, ssl=self._ssl
            ),
            await asyncio.start_server(metrics.handle, self.host, self.ports.metrics, limit=HEAD_BYTES),
        ]

    async def _shut(self) -> None:
        for listener in self._listeners:
            listener.close()
        await self._server.stop(grace=0.5)
        await self._grpc_door.end_all()
        await self._upstream.close()
        # Nothing of the loop may outlive it: pumps of answers that were let go, connections that idle.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
