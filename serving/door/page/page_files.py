"""The page at `/`, as `make page` built it, with headers that let it load and call nothing but this server."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving.door import generate_request

BUILT = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",  # a dropped clip, played from memory
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked for again with its ETag
    "vary": "accept-encoding",
}


@dataclass(frozen=True)
class _File:
    """One file, in memory: the whole page is smaller than an answer with speech."""

    body: bytes
    packed: bytes
    etag: str
    media_type: str

    @classmethod
    def read(cls, path: Path) -> _File:
        body = path.read_bytes()
        media_type = mimetypes.types_map.get(path.suffix, "application/octet-stream")
        digest = hashlib.sha256(body).hexdigest()[:32]
        return cls(body, gzip.compress(body, mtime=0), digest, media_type)

    def answer(self, request: Request) -> Response:
        packed = "gzip" in request.headers.get("accept-encoding", "")
        etag = f'"{self.etag}{"-gz" if packed else ""}"'
        headers = {**HEADERS, "etag": etag}
        known = [
            one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")
        ]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(self.packed if packed else self.body, headers=headers, media_type=self.media_type)


class PageFiles:
    """Translates nothing: `/` and what the page loads. GET and HEAD."""

    prefix = "/assets/"
    error_body = staticmethod(generate_request.error_json)

    def __init__(self, built: Path = BUILT):
        files = {path.relative_to(built).as_posix(): path for path in built.rglob("*") if path.is_file()}
        served = {"/" if name == "index.html" else f"/{name}": path for name, path in sorted(files.items())}
        self.paths = tuple(served)
        self.routes: list[BaseRoute] = [
            Route(place, _endpoint(_File.read(path)), methods=["GET"]) for place, path in served.items()
        ]


def _endpoint(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return file.answer(request)

    return answer
