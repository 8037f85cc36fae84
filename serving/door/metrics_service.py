"""/metrics: Triton's own and the door's; and health, on a port that no client can fill."""

from __future__ import annotations

import asyncio
import http.client

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.door.admission import Admission
from serving.door.metrics import DoorMetrics, joined

TIMEOUT_S = 5.0
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


class MetricsService:
    """`app` is the ASGI application; host and port are where Triton serves its own."""

    def __init__(self, host: str, port: int, metrics: DoorMetrics, admission: Admission):
        self._address = (host, port)
        self._metrics = metrics
        self._admission = admission
        self.app = Starlette(
            routes=[
                Route("/metrics", self._text, methods=["GET"]),
                Route("/v2/health/live", self._live, methods=["GET"]),
                Route("/v2/health/ready", self._ready, methods=["GET"]),
            ]
        )

    async def _live(self, request: Request) -> Response:
        return Response(status_code=200 if self._admission.alive else 503)

    async def _ready(self, request: Request) -> Response:
        return Response(status_code=200 if self._admission.serving else 503)

    async def _text(self, request: Request) -> Response:
        tritons = await asyncio.to_thread(self._of_triton)
        return PlainTextResponse(joined(self._metrics.text(), tritons), media_type=TEXT_FORMAT)

    def _of_triton(self) -> str:
        """Empty while Triton is away: the door's own figures still tell that it is."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()
