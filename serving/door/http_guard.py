"""HTTP and WebSocket: nothing behind it runs before the caller is known."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from af3.errors import RequestError
from serving.door.caller import Caller, set_caller
from serving.door.gatekeeper import Gatekeeper, address_of
from serving.door.http_body import send_error

# Browsers can give a WebSocket no header but its subprotocols; OpenAI's clients send the key so.
KEY_SUBPROTOCOL = "openai-insecure-api-key."
CHALLENGE = {"www-authenticate": 'Bearer realm="audio-flamingo"'}


class HttpGuard:
    """`error_body`: an error as the clients of a path read it; `open_paths`: whole paths that need no key;
    `open_folders`: beginnings of such, with a slash at the end.
    """

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        error_body: Callable[[HTTPConnection, RequestError], bytes],
        open_paths: Collection[str],
        open_folders: Collection[str] = (),
    ):
        self._gatekeeper = gatekeeper
        self._error_body = error_body
        self._open_paths = frozenset(open_paths)
        self._open_folders = tuple(open_folders)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
                return
            try:
                set_caller(self._caller(scope))
            except RequestError as error:
                await self._refuse(error, scope, receive, send)
                return
            await app(scope, receive, send)

        return guarded

    def is_open(self, scope: Scope) -> bool:
        """Only reading is ever open."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        return scope["path"] in self._open_paths or scope["path"].startswith(self._open_folders)

    def _caller(self, scope: Scope) -> Caller:
        address = address_of((scope.get("client") or ("",))[0])
        if self.is_open(scope):
            return self._gatekeeper.of_address(address)
        headers = Headers(scope=scope)
        given = headers.getlist("authorization")
        if scope["type"] == "websocket" and not given:
            offered = [
                part.strip() for part in ",".join(headers.getlist("sec-websocket-protocol")).split(",")
            ]
            given = [
                f"Bearer {part[len(KEY_SUBPROTOCOL) :]}"
                for part in offered
                if part.startswith(KEY_SUBPROTOCOL)
            ]
        return self._gatekeeper.identify(scope["type"], given, address)

    async def _refuse(self, error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._error_body(HTTPConnection(scope), error)
        if scope["type"] == "http":
            await send_error(Request(scope, receive), send, error, body, CHALLENGE, more_body=True)
            return
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.message})  # a plain 403
            return
        headers = {**CHALLENGE, "content-type": "application/json", "content-length": str(len(body))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": raw})
        await send({"type": "websocket.http.response.body", "body": body})
