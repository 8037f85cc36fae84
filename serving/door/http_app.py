"""All that is served over HTTP: one application of several translators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from af3.errors import RequestError
from serving.door.browser_check import BrowserCheck
from serving.door.http_body import CODES, ErrorBody
from serving.door.request_check import PUBLIC_MODELS


class Translator(Protocol):
    """One protocol over HTTP. `prefix`: of its paths; `error_body`: an error as its clients read it."""

    prefix: str
    routes: list[BaseRoute]

    @property
    def error_body(self) -> ErrorBody: ...


def http_app(translators: Sequence[Translator], browsers: BrowserCheck) -> ASGIApp:
    """Every translator's routes; what none serves is refused as the nearest translator refuses."""
    by_prefix = sorted(translators, key=lambda one: -len(one.prefix))

    def body(request: Request, error: RequestError) -> bytes:
        path = request.url.path
        return next(one for one in by_prefix if path.startswith(one.prefix)).error_body(error)

    async def not_served(request: Request, error: HTTPException) -> Response:
        sentence = (
            f"{request.method} {request.url.path[:128]} is not served; "
            f"see /v2/models/{PUBLIC_MODELS[0]}/generate_stream"
        )
        found = body(request, RequestError("NOT_FOUND", sentence))
        return Response(found, 404, media_type="application/json")

    async def refused(request: Request, error: RequestError) -> Response:
        return Response(body(request, error), CODES[error.status], media_type="application/json")

    return Starlette(
        routes=[route for one in translators for route in one.routes],
        middleware=[Middleware(browsers.middleware)],
        exception_handlers={HTTPException: not_served, RequestError: refused},  # type: ignore[dict-item]
    )
