"""The key by which a proxy sends a request to the server that has heard its clip before.

The door does not route. It repeats the key that a request came with, or says which one it has, so that any client can
send it with its next question about the same clip. Only equality counts: any text of the client's own will do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable

from tritonclient.grpc import service_pb2

from af3 import contract

HEADER = "x-af3-affinity"  # over gRPC: metadata
DIGITS = 16
KEY = re.compile(r"[\x21-\x7e]{1,128}")
IN_PLACE_BYTES = 64 << 10  # hashed or parsed faster than a thread is woken
BEGINNING_BYTES = 4096  # of longer conversations


def given(values: Iterable[str | bytes]) -> str:
    """The key that a client, or a proxy for it, has sent: the values of HEADER. "" for none that can be repeated."""
    for value in values:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if KEY.fullmatch(text):
            return text
    return ""


def of_bytes(beginning: bytes | memoryview) -> str:
    """The key of a clip as it was sent, or of the beginning of a conversation."""
    return hashlib.sha256(beginning).hexdigest()[:DIGITS]


async def of_request(request: service_pb2.ModelInferRequest) -> str:
    """The key of a request without one: of its first clip, else of its prompt, else of its messages up to the first
    of the user, which every turn of the conversation begins with. "" for a request that has none of them.
    """
    beginning = _beginning(request)
    if len(beginning) <= IN_PLACE_BYTES:
        return of_bytes(beginning) if beginning else ""
    return await asyncio.to_thread(of_bytes, beginning)


def _beginning(request: service_pb2.ModelInferRequest) -> memoryview:
    contents = {
        tensor.name: content
        for tensor, content in zip(request.inputs, request.raw_input_contents, strict=False)
    }
    if clip := first_element(contents.get(contract.AUDIO.name, b"")):
        return clip
    if prompt := first_element(contents.get(contract.PROMPT.name, b"")):
        return prompt
    return memoryview(_first_turn(bytes(first_element(contents.get(contract.MESSAGES.name, b"")))))


def first_element(content: bytes) -> memoryview:
    """Of a BYTES tensor as it is on the wire: each element's length (4 bytes, little endian) and the element."""
    return memoryview(content)[4 : 4 + int.from_bytes(content[:4], "little")]


def _first_turn(messages: bytes) -> bytes:
    if len(messages) > IN_PLACE_BYTES:
        return messages[:BEGINNING_BYTES]
    try:
        turns = json.loads(messages)
        roles = [turn["role"] for turn in turns]
        return json.dumps(turns[: roles.index("user") + 1], sort_keys=True).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return messages  # a step will say what is wrong with it
