"""Builds the metadata of a request, by which a proxy finds the server that has encoded its clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from tritonclient.grpc import service_pb2

from . import contract

AFFINITY_HEADER = "x-af3-affinity"
REAL_STATUS_HEADER = "triton_grpc_error"
LONGEST_READ_BYTES, BEGINNING_BYTES = 64 << 10, 4096  # as the server's door has it
Metadata = tuple[tuple[str, str], ...]


def metadata(request: service_pb2.ModelInferRequest) -> Metadata:
    """The affinity key, and the header that makes errors the status of the call.

    A stream has one request, so with the status a proxy can try another server as long as no answer has begun.
    """
    return ((AFFINITY_HEADER, affinity_key(request)), (REAL_STATUS_HEADER, "true"))


def affinity_key(request: service_pb2.ModelInferRequest) -> str:
    """The first 16 digits of the SHA-256 of the first clip; without a clip, of the prompt or of the messages up to the
    user's first.
    """
    contents = dict(zip((tensor.name for tensor in request.inputs), request.raw_input_contents, strict=True))
    if contract.AUDIO.name in contents:
        beginning: bytes | memoryview = next(elements(contents[contract.AUDIO.name]))
    elif contract.PROMPT.name in contents:
        beginning = next(elements(contents[contract.PROMPT.name]))
    else:
        beginning = _first_turn(next(elements(contents[contract.MESSAGES.name])))
    return hashlib.sha256(beginning).hexdigest()[:16]


def elements(content: bytes) -> Iterator[memoryview]:
    """Split a BYTES tensor: on the wire each element follows its length (4 bytes, little endian)."""
    view, start = memoryview(content), 0
    while start < len(view):
        end = start + 4 + int.from_bytes(view[start : start + 4], "little")
        yield view[start + 4 : end]
        start = end


def _first_turn(messages: memoryview) -> bytes | memoryview:
    if len(messages) > LONGEST_READ_BYTES:
        return messages[:BEGINNING_BYTES]
    turns = json.loads(bytes(messages))
    try:
        last = [turn["role"] for turn in turns].index("user")
    except (ValueError, TypeError, KeyError):
        return messages  # the server will say what is wrong with it
    return json.dumps(turns[: last + 1], sort_keys=True).encode()
