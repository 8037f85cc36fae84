"""The door at work: an event loop in a thread of its own, with gRPC, HTTP and metrics on it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from serving.address import Ports, listen, location
from serving.audio_usage import UsageReceiver
from serving.door.admission import DEFAULT_LIMITS, Admission, Limits
from serving.door.browser_check import BrowserCheck
from serving.door.gatekeeper import Gatekeeper
from serving.door.grpc_server import GrpcServer
from serving.door.http_app import Translator, http_app
from serving.door.http_server import HttpServer
from serving.door.kserve_http import KserveHttp
from serving.door.metrics import DoorMetrics
from serving.door.metrics_service import MetricsService
from serving.door.open_files import connections_allowed
from serving.door.openai.openai_service import OpenAiHttp
from serving.door.page.page_files import PageFiles
from serving.door.realtime.realtime_limits import DEFAULT_REALTIME, RealtimeLimits
from serving.door.realtime.realtime_service import RealtimeService
from serving.door.relay import Relay
from serving.door.stall_watch import StallWatch
from serving.door.tls import Certificates, Tls
from serving.door.upstream import Upstream
from serving.door.voices_list import VoicesList

# Only a loop that hangs takes so long; one whose cores are all taken once took more than ten seconds.
LOOP_TIMEOUT_S = 60.0
METRICS_CONNECTIONS = 32


@dataclass(frozen=True)
class TritonAddress:
    """The Triton behind the door, on loopback."""

    ports: Ports
    key: str
    host: str = "127.0.0.1"


class Door:
    """Listens from construction on; requests are refused before `ready` is set. Use it as a context manager."""

    def __init__(
        self,
        triton: TritonAddress,
        host: str,
        ports: Ports,
        limits: Limits = DEFAULT_LIMITS,
        tls: Tls | None = None,
        origins: Sequence[str] = (),
        metrics_host: str | None = None,
        realtime: RealtimeLimits = DEFAULT_REALTIME,
        voices: Sequence[str] = (),
        api_keys: Path | None = None,
    ):
        """`ports` must be free ones (`serving.address.claim`); `origins`: web pages that may call; `voices`: to
        choose from, for those who ask; `api_keys`: the file of keys, one of which every caller needs then.

        Raises TlsError, KeyFileError, OSError.
        """
        self.host = host
        self.metrics_host = host if metrics_host is None else metrics_host
        self.ports = ports
        self.admission = Admission(limits)
        self.metrics = DoorMetrics(lambda: self.admission.in_flight, lambda: float(self.admission.ready))
        self.gatekeeper = Gatekeeper(api_keys, self.metrics)
        self._triton = triton
        self._origins = origins
        self._realtime_limits = realtime
        self._voices = voices
        self._certificates = None if tls is None else Certificates(tls)
        self._loop = uvloop.new_event_loop()  # a tenth less processor time a token than asyncio's own
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._thread.start()
        self._call(self._open()).result(LOOP_TIMEOUT_S)

    @property
    def url(self) -> str:
        """gRPC address, as clients take it."""
        return location(self.host, self.ports.grpc)

    @property
    def usage_socket(self) -> str:
        """Where the steps tell how long clips are (`serving.audio_usage`)."""
        return self._usage.path

    def reload(self) -> None:
        """Read certificates and API keys again. Raises TlsError, KeyFileError, and goes on with the old ones."""
        self._call(self._reload()).result(LOOP_TIMEOUT_S)

    async def _reload(self) -> None:
        if self._certificates is not None:
            self._certificates.reload()
        self.gatekeeper.reload()

    def drain(self, timeout_s: float) -> int:
        """Refuse new requests and wait for those in flight; how many had to be ended, with an error, at the end."""
        self.admission.draining = True
        self._call(self.realtime.drain()).result(LOOP_TIMEOUT_S)
        end = time.monotonic() + timeout_s
        while self.admission.in_flight and time.monotonic() < end:
            time.sleep(0.05)
        left = self.admission.in_flight
        self._call(self.relay.end_all()).result(LOOP_TIMEOUT_S)
        return left

    def close(self) -> None:
        """Stop listening."""
        self._call(self._shut()).result(LOOP_TIMEOUT_S)
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
        with ExitStack() as opened:
            # First of all: until then another process may take the ports.
            for_http = opened.enter_context(listen(self.host, self.ports.http))
            for_metrics = opened.enter_context(listen(self.metrics_host, self.ports.metrics))
            await self._open_on(for_http, for_metrics)
            opened.pop_all()

    async def _open_on(self, for_http: socket.socket, for_metrics: socket.socket) -> None:
        triton, connections = self._triton, connections_allowed()
        shown = self._certificates
        credentials = None if shown is None else shown.grpc_credentials()
        context = None if shown is None else shown.ssl_context()
        self._upstream = Upstream(location(triton.host, triton.ports.grpc), triton.key, self.admission)
        self.relay = Relay(self._upstream, self.admission, self.metrics)
        self._usage = UsageReceiver(self.relay.heard)
        self._watch = StallWatch()
        self._grpc = GrpcServer(self.relay, self._watch, self.gatekeeper, self.url, credentials, connections)
        await self._grpc.start()
        of_address = self.admission.limits.connections_of_address
        self.realtime = RealtimeService(self.relay, self._watch, self._realtime_limits)
        self.metrics.watch_realtime(lambda: self.realtime.sessions, lambda: self.realtime.audio_bytes)
        page = PageFiles()
        translators: list[Translator] = [
            KserveHttp(self.relay, self._watch),
            OpenAiHttp(self.relay, self._watch),
            self.realtime,
            VoicesList(self._voices),
            page,
        ]
        self.http = http_app(translators, BrowserCheck(self._origins, page.paths), self.gatekeeper)
        metrics = MetricsService(triton.host, triton.ports.metrics, self.metrics, self.admission)
        self._http = [
            HttpServer(self.http, for_http, connections, of_address, context),
            HttpServer(metrics.app, for_metrics, METRICS_CONNECTIONS),
        ]
        for server in self._http:
            await server.start()

    async def _shut(self) -> None:
        await self.relay.end_all()
        await self.realtime.close()
        await asyncio.gather(self._grpc.close(), *(server.close() for server in self._http))
        self._watch.close()
        self._usage.close()
        await self._upstream.close()
        # Nothing of the loop may outlive it: answers that are being stopped, idle connections.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
