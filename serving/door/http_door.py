"""HTTP: `generate` and `generate_stream` of the ensembles, health, and /metrics; every other path is closed.

A request is passed on whole and alone, each on a connection of its own, so nothing can hide behind another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from af3.errors import RequestError, Status, invalid
from serving.address import KEY_HEADER
from serving.door.admission import PUBLIC_MODELS, Admission
from serving.door.metrics import DoorMetrics
from serving.door.record import Record
from serving.door.upstream import Upstream

HEAD_BYTES = 16 << 10
HEAD_TIMEOUT_S = 30.0
BLOCK_BYTES = 64 << 10
CODES: Mapping[Status, str] = {
    "INVALID_ARGUMENT": "400 Bad Request",
    "NOT_FOUND": "404 Not Found",
    "ALREADY_EXISTS": "409 Conflict",
    "DEADLINE_EXCEEDED": "504 Gateway Timeout",
    "UNAVAILABLE": "503 Service Unavailable",
    "UNIMPLEMENTED": "501 Not Implemented",
}
GENERATE = {
    f"/v2/models/{model}/{verb}" for model in PUBLIC_MODELS for verb in ("generate", "generate_stream")
}
READ_ONLY = {"/v2"} | {
    f"/v2/models/{model}{end}" for model in PUBLIC_MODELS for end in ("", "/ready", "/config")
}


@dataclass(frozen=True)
class _Head:
    method: str
    path: str
    length: int


class HttpDoor:
    """One handler per connection; `url` is Triton's own HTTP address."""

    def __init__(
        self, host: str, port: int, key: str, upstream: Upstream, admission: Admission, metrics: DoorMetrics
    ):
        self._address = (host, port)
        self._key = key
        self._upstream = upstream
        self._admission = admission
        self._metrics = metrics

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        try:
            head = await asyncio.wait_for(_read_head(reader), HEAD_TIMEOUT_S)
            await self._route(head, reader, writer)
        except RequestError as error:
            await _reply(writer, CODES[error.status], _error_body(error))
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError, OSError):
            pass  # the client has left, or never said what it wanted
        finally:
            writer.close()

    async def _route(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.method == "GET" and head.path == "/v2/health/live":
            await _reply(writer, "200 OK")
        elif head.method == "GET" and head.path == "/v2/health/ready":
            ready = self._admission.ready and not self._admission.draining
            await _reply(writer, "200 OK" if ready else "503 Service Unavailable")
        elif head.method == "GET" and head.path in READ_ONLY:
            await self._pass_on(head, b"", writer)
        elif head.method == "POST" and head.path in GENERATE:
            await self._generate(head, reader, writer)
        else:
            raise RequestError(
                "NOT_FOUND",
                f"{head.method} {head.path[:128]} is not served; see /v2/models/{PUBLIC_MODELS[0]}/generate_stream",
            )

    async def _generate(
        self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        limits = self._admission.limits
        if head.length > limits.message_bytes:
            raise invalid(
                f"the request has {head.length} bytes, more than the {limits.message_bytes} allowed"
            )
        body = await asyncio.wait_for(reader.readexactly(head.length), limits.timeout_s)
        record = Record("http", head.path.split("/")[3], request_bytes=len(body))
        try:
            record.request_id = await asyncio.to_thread(_request_id, body)
            self._admission.enter(record.request_id)
        except RequestError as error:
            self._metrics.refused.add(error.status)
            record.status = error.status
            record.book(self._metrics)
            raise
        try:
            record.status = "CANCELLED"
            await asyncio.wait_for(self._until_gone(head, body, reader, writer, record), limits.timeout_s)
            record.status = "OK"
        except asyncio.TimeoutError:
            record.status = "DEADLINE_EXCEEDED"
        finally:
            record.book(self._metrics)
            if record.status != "OK":
                await self._upstream.stop(record.request_id)
            self._admission.leave(record.request_id)

    async def _until_gone(
        self,
        head: _Head,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        record: Record,
    ) -> None:
        """Pass the answer on; a client that closes its side first is a client that left."""
        passing = asyncio.create_task(self._pass_on(head, body, writer, record))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not passing.done():
                raise ConnectionResetError
            passing.result()
        finally:
            passing.cancel()
            leaving.cancel()

    async def _pass_on(
        self, head: _Head, body: bytes, writer: asyncio.StreamWriter, record: Record | None = None
    ) -> None:
        try:
            from_triton, to_triton = await asyncio.open_connection(*self._address)
        except OSError:
            raise RequestError("UNAVAILABLE", "the server restarts; try again in a few seconds") from None
        try:
            lines = [
                f"{head.method} {head.path} HTTP/1.1",
                "Host: triton",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                f"{KEY_HEADER}: {self._key}",
                "Connection: close",
            ]
            to_triton.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await to_triton.drain()
            while block := await from_triton.read(BLOCK_BYTES):
                if record is not None:
                    self._admission.heard()
                    record.take_text(block)
                writer.write(block)
                await writer.drain()
        finally:
            to_triton.close()


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    """Raises RequestError for what is not HTTP/1.1 with a known length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        request, *fields = head.decode("ascii").rstrip("\r\n").split("\r\n")
        method, path, version = request.split(" ")
        headers = [
            (name.strip().lower(), value.strip()) for name, _, value in (f.partition(":") for f in fields)
        ]
        lengths = {value for name, value in headers if name == "content-length"} or {"0"}
        (length,) = lengths
        if not version.startswith("HTTP/1.") or not length.isdigit():
            raise ValueError
    except (asyncio.LimitOverrunError, ValueError):
        raise invalid(f"not an HTTP/1.1 request with a head of at most {HEAD_BYTES} bytes") from None
    if any(name == "transfer-encoding" for name, _ in headers):
        raise invalid("Transfer-Encoding is not read; send a Content-Length")
    return _Head(method, path.partition("?")[0], int(length))


def _request_id(body: bytes) -> str:
    """The `id` of a generate request. Raises RequestError for what is no JSON object."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("the body is not valid JSON") from None
    if not isinstance(found, dict):
        raise invalid('the body is not a JSON object; send {"id": …, "prompt": …}')
    request_id = found.get("id", "")
    return request_id if isinstance(request_id, str) else str(request_id)


def _error_body(error: RequestError) -> bytes:
    return json.dumps({"error": f"{error.status}: {error.message}"}).encode()


async def _reply(
    writer: asyncio.StreamWriter, status: str, body: bytes = b"", kind: str = "application/json"
) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with suppress(ConnectionError):
        writer.write(head.encode() + body)
        await writer.drain()


class MetricsDoor:
    """/metrics: Triton's own and the door's."""

    def __init__(self, host: str, port: int, metrics: DoorMetrics):
        self._address = (host, port)
        self._metrics = metrics

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        try:
            head = await asyncio.wait_for(_read_head(reader), HEAD_TIMEOUT_S)
            if (head.method, head.path) != ("GET", "/metrics"):
                raise RequestError("NOT_FOUND", "only GET /metrics is served here")
            text = await self._of_triton() + self._metrics.text().encode()
            await _reply(writer, "200 OK", text, "text/plain; version=0.0.4")
        except RequestError as error:
            await _reply(writer, CODES[error.status], _error_body(error))
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        finally:
            writer.close()

    async def _of_triton(self) -> bytes:
        """Empty while Triton is away: the door's own figures still tell that it is."""
        try:
            reader, writer = await asyncio.open_connection(*self._address)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: triton\r\nConnection: close\r\n\r\n")
            reply = await asyncio.wait_for(reader.read(), HEAD_TIMEOUT_S)
            writer.close()
        except (OSError, asyncio.TimeoutError):
            return b""
        return reply.partition(b"\r\n\r\n")[2]
