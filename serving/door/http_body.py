"""Reading the body of an HTTP request, and refusing one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.types import Message, Receive, Send

from af3.errors import RequestError, Status, invalid
from serving.door.json_body import StructureCount
from serving.door.upload_budget import Upload, UploadBudget

IDLE_S = 30.0  # a client that sends nothing for so long is given up
DRAIN_S = 30.0  # of a body that was refused, so that its client comes to read why
ErrorBody = Callable[[RequestError], bytes]  # as a protocol's clients read it
ErrorCode = Callable[[RequestError], int]  # HTTP's
CODES: Mapping[Status, int] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 412,
    "RESOURCE_EXHAUSTED": 413,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class BlockCount(Protocol):
    """Looks at a body while it comes, and raises RequestError for one that must not be parsed.

    A block is the first `size` bytes of a buffer, which is written over afterwards.
    """

    def feed(self, buffer: bytes | bytearray, size: int) -> None: ...


def http_status(error: RequestError) -> int:
    """Too large, or too much for now: HTTP has two codes for what is one status."""
    if error.status == "RESOURCE_EXHAUSTED" and error.retry_s is not None:
        return 429
    return CODES[error.status]


class ClientLeft(Exception):
    """The connection was closed before the whole request had come."""


async def read_body(
    request: Request, budget: UploadBudget, count: Callable[[], BlockCount] = StructureCount
) -> tuple[bytearray, Upload]:
    """The whole body, and the memory it holds. Raises RequestError, at once where it must not be read at all."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise invalid(f"Content-Encoding '{coding[:32]}' is not read; send it plain")
    announced = _announced(request)
    upload = budget.open(announced)
    body = _Body(upload, count())
    extensions = request.scope.get("extensions", {})
    cycle = extensions.get("af3.cycle")
    try:
        if cycle is not None:
            body.take(cycle.body, len(cycle.body))  # what came before anybody asked
            cycle.body, cycle.collect = bytearray(), body.collect
            extensions["af3.connection"].receive_body(cycle, announced - len(body.content))
        while True:
            message = await _next(request.receive, body)
            if message["type"] == "http.disconnect":
                raise ClientLeft
            block = message.get("body", b"")
            body.take(block, len(block))
            if not message.get("more_body", False):
                return body.content, upload
    except BaseException:
        body.give_up()
        raise
    finally:
        if cycle is not None:
            cycle.collect = None


def _announced(request: Request) -> int:
    """Bytes of the body; 0 where they are not known."""
    length = request.headers.get("content-length", "0")
    known = length.isdigit() and len(length) < 20 and "transfer-encoding" not in request.headers
    return int(length) if known else 0


class _Body:
    """The part of a body that has arrived."""

    def __init__(self, upload: Upload, structure: BlockCount):
        self.content = bytearray()
        self.came_s = time.monotonic()
        self._upload = upload
        self._structure = structure
        self._error: RequestError | None = None

    def take(self, buffer: bytes | bytearray, size: int) -> None:
        """The first `size` bytes of the buffer. Raises RequestError when it must not be read on, or was not."""
        if self._error is not None:
            raise self._error
        try:
            self._upload.grow(size)
            self._structure.feed(buffer, size)
        except RequestError:
            self.give_up()
            raise
        self.content += memoryview(buffer)[:size]
        self.came_s = time.monotonic()

    def give_up(self) -> None:
        """Hold neither bytes nor budget any more: whoever tells the client keeps this object while he reads on."""
        self.content = bytearray()
        self._upload.release()

    def collect(self, buffer: bytes | bytearray, size: int) -> bool:
        """`take`, called by the connection; False when no more is taken, and `take` says why."""
        try:
            self.take(buffer, size)
        except RequestError as error:
            self._error = error
        return self._error is None


async def _next(receive: Receive, body: _Body) -> Message:
    """What the connection has to say: that all is there, or that it ends; of a body it does not collect, a block.

    Raises RequestError when nothing has come for IDLE_S.
    """
    while (left_s := body.came_s + IDLE_S - time.monotonic()) > 0:
        try:
            return await asyncio.wait_for(receive(), left_s)
        except asyncio.TimeoutError:
            continue  # unless something came meanwhile
    raise RequestError("DEADLINE_EXCEEDED", f"nothing of the request came for {IDLE_S:g} s; send it faster")


async def send_error(
    request: Request,
    send: Send,
    error: RequestError,
    body: bytes,
    headers: Mapping[str, str],
    more_body: bool,
    code: int | None = None,
) -> None:
    """The error with this JSON body; with `more_body` then read on what is left of the request.

    `code`: that of HTTP; by default the usual one of the status.

    Many clients read the reply only after they have sent all of their request; a connection that is closed before
    loses it.
    """
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    if error.retry_s is not None:
        fields["retry-after"] = str(error.retry_s)
    if more_body and "expect" in request.headers:
        fields["connection"] = "close"  # the body may follow, or not
        more_body = False
    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": code or http_status(error), "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if more_body and not await _drained(request):
        request.scope["extensions"]["af3.connection"].transport.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drained(request: Request) -> bool:
    """True when the rest of the body has arrived."""
    extensions = request.scope.get("extensions", {})
    cycle = extensions.get("af3.cycle")
    if cycle is not None and not cycle.more_body:
        return True  # it came before it was refused, and nothing more will be said
    if cycle is not None:
        extensions["af3.connection"].drop_body(cycle, _announced(request))
    end = asyncio.get_running_loop().time() + DRAIN_S
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), end - asyncio.get_running_loop().time())
        except asyncio.TimeoutError:
            return False
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return True
