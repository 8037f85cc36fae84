"""Sends the SHA-256 of large clips first, and the clips only to a server that does not have them.

This helps with large clips that are asked about again over a slow line: the first question about a clip takes one more
round trip, and every later one saves the upload.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from . import contract
from .clip_key import Metadata, elements

KEEP = (("x-af3-keep-clips", "true"),)
SHORTEST_BYTES = 64 << 10  # a shorter clip is sent at once: naming it would save nothing

# Starts the call of a request with these metadata and this deadline.
Start = Callable[[service_pb2.ModelInferRequest, Metadata, float | None], grpc.Call]


def named(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferRequest | None:
    """A copy of the request with the hashes of its large clips in their place; None if it has no large clip."""
    place = next((n for n, tensor in enumerate(request.inputs) if tensor.name == contract.AUDIO.name), None)
    if place is None:
        return None
    clips = list(elements(request.raw_input_contents[place]))
    names = [_name(clip) if _worth_it(clip) else clip for clip in clips]
    if names == clips:
        return None
    short = service_pb2.ModelInferRequest()
    short.CopyFrom(_without_contents(request))
    for number, content in enumerate(request.raw_input_contents):
        short.raw_input_contents.append(_joined(names) if number == place else content)
    return short


class CancelledHere(grpc.RpcError):
    """The caller cancelled after the server had asked for the clips."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return ""


class _Tried:
    """The base of both calls: tries the short request first, and keeps the deadline over both tries."""

    def __init__(
        self,
        request: service_pb2.ModelInferRequest,
        short: service_pb2.ModelInferRequest,
        beside: Metadata,
        timeout_s: float | None,
        start: Start,
    ):
        self._request = request
        self._beside = beside
        self._start = start
        self._timeout_s = timeout_s
        self._began_s = time.monotonic()
        self._cancelled = False
        self._call = start(short, beside, timeout_s)

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()

    def _again(self, error: grpc.RpcError) -> None:
        """Send the whole request if the server asked for the clips; otherwise raise the error."""
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise error
        if self._cancelled:
            raise CancelledHere from None
        left_s = None if self._timeout_s is None else self._timeout_s - (time.monotonic() - self._began_s)
        self._call = self._start(self._request, self._beside + KEEP, left_s)
        if self._cancelled:  # from another thread, meanwhile
            self._call.cancel()


class TriedByName(_Tried):
    """The call of a request that is tried with hashes first. Iterate it once; cancel it from any thread."""

    def __iter__(self) -> Iterator[service_pb2.ModelStreamInferResponse]:
        begun = False
        try:
            for response in self._call:  # type: ignore[attr-defined]
                begun = True
                yield response
            return
        except grpc.RpcError as error:
            if begun:
                raise
            self._again(error)
        yield from self._call  # type: ignore[misc]


class AsyncTriedByName(_Tried):
    """As `TriedByName`, for asyncio."""

    async def __aiter__(self) -> AsyncIterator[service_pb2.ModelStreamInferResponse]:
        begun = False
        try:
            async for response in self._call:  # type: ignore[attr-defined]
                begun = True
                yield response
            return
        except grpc.RpcError as error:
            if begun:
                raise
            self._again(error)
        async for response in self._call:  # type: ignore[attr-defined]
            yield response


def _worth_it(clip: memoryview) -> bool:
    """False for base64 text too: the server keeps a clip under the hash of the decoded file."""
    return len(clip) >= SHORTEST_BYTES and bytes(clip[:5]).lower() != b"data:"


def _name(clip: memoryview) -> memoryview:
    return memoryview(b"sha256:" + hashlib.sha256(clip).hexdigest().encode())


def _joined(parts: list[memoryview]) -> bytes:
    return b"".join(piece for part in parts for piece in (len(part).to_bytes(4, "little"), part))


def _without_contents(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferRequest:
    found = service_pb2.ModelInferRequest(model_name=request.model_name, id=request.id)
    found.inputs.extend(request.inputs)
    for name, value in request.parameters.items():
        found.parameters[name].CopyFrom(value)
    return found
