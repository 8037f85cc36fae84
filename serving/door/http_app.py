"""All that is served over HTTP: one application of several translators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from af3.errors import RequestError
from serving.door.browser_check import BrowserCheck
from serving.door.gatekeeper import Gatekeeper
from serving.door.http_body import ErrorBody, http_status
from serving.door.http_guard import HttpGuard
from serving.door.request_check import PUBLIC_MODELS

# Paths that need no API key, for GET and HEAD only: they reveal nothing and cost nothing.
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/", "/icon.svg")
OPEN_FOLDERS = ("/assets/",)  # what the page loads: it is itself that asks for the key


class Translator(Protocol):
    """One protocol over HTTP. `prefix`: of its paths; `error_body`: an error as its clients read it."""

    prefix: str
    routes: list[BaseRoute]

    @property
    def error_body(self) -> ErrorBody: ...


def http_app(translators: Sequence[Translator], browsers: BrowserCheck, gatekeeper: Gatekeeper) -> Starlette:
    """Every translator's routes; what none serves is refused as the nearest translator refuses.

    No route is reached but through the guard.
    """
    by_prefix = sorted(translators, key=lambda one: -len(one.prefix))

    def body(request: HTTPConnection, error: RequestError) -> bytes:
        path = request.url.path
        return next(one for one in by_prefix if f"{path}/".startswith(one.prefix)).error_body(error)

    async def not_served(request: Request, error: HTTPException) -> Response:
        sentence = (
            f"{request.method} {request.url.path[:128]} is not served; "
            f"see /v2/models/{PUBLIC_MODELS[0]}/generate_stream"
        )
        found = body(request, RequestError("NOT_FOUND", sentence))
        # 404, or 405 for a path that is served to other methods.
        return Response(found, error.status_code, error.headers, media_type="application/json")

    async def refused(request: Request, error: RequestError) -> Response:
        return Response(body(request, error), http_status(error), media_type="application/json")

    guard = HttpGuard(gatekeeper, body, OPEN_PATHS, OPEN_FOLDERS)
    app = Starlette(
        routes=[route for one in translators for route in one.routes],
        middleware=[Middleware(browsers.middleware), Middleware(guard.middleware)],
        exception_handlers={HTTPException: not_served, RequestError: refused},  # type: ignore[dict-item]
    )
    # A redirect to the path without its last slash would name the host and the scheme as a proxy has them.
    app.router.redirect_slashes = False
    return app
