"""Web pages: only those that the operator has named may call the server.

A browser lets any page send requests to a server on the user's own machine or network. It names the page in `Origin`,
which programs do not send.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class BrowserCheck:
    """`origins`: what may call, such as https://voice.example; "*" for every page.

    `public_files`: paths that are the same for everybody, such as those of the page itself. Chromium names the page in
    `Origin` when it loads its scripts, and a page that may not call must still be loaded to say so.
    """

    def __init__(self, origins: Sequence[str] = (), public_files: Collection[str] = ()):
        self._origins = tuple(origin.rstrip("/").lower() for origin in origins)
        self._public_files = frozenset(public_files)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The application, with a refusal for other pages and CORS headers for those that may call."""
        allowed = CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is None or self.may_call(origin, headers.get("host", "")):
                await allowed(scope, receive, send)
            elif self._is_public(scope):
                await app(scope, receive, send)
            else:
                await _refuse(origin, scope["type"], send)

        return checked

    def _is_public(self, scope: Scope) -> bool:
        return (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and scope["path"] in self._public_files
        )

    def may_call(self, origin: str, host: str) -> bool:
        """A page that the operator named, or one that came from this very server.

        By name the latter proves nothing: a name may be made to point here after its page was loaded (DNS rebinding).
        """
        if "*" in self._origins or origin.lower() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc == host and _is_address(urlsplit(f"//{host}").hostname or "")
        except ValueError:  # no URL: half a pair of brackets
            return False


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _refuse(origin: str, kind: str, send: Send) -> None:
    """kind: http, or websocket, whose handshake is refused by an HTTP response too."""
    sentence = (
        f"PERMISSION_DENIED: pages of {origin[:128]} may not call this server; start it with --allow-origin"
    )
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    prefix = "http" if kind == "http" else "websocket.http"
    await send({"type": f"{prefix}.response.start", "status": 403, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})
