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

from af3 import contract
from serving.door.clip_store import digest_named, elements
from serving.door.wire_request import WireRequest

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


async def of_request(request: WireRequest) -> str:
    """The key of a request without one: of its first clip, else of its prompt, else of its messages up to the first
    of the user, which every turn of the conversation begins with. "" for a request that has none of them.
    """
    beginning = _beginning(request)
    if digest := digest_named(beginning):
        return digest[:DIGITS]
    if len(beginning) <= IN_PLACE_BYTES:
        return of_bytes(beginning) if beginning else ""
    return await asyncio.to_thread(of_bytes, beginning)


def _beginning(request: WireRequest) -> memoryview:
    for tensor in (contract.AUDIO, contract.PROMPT):
        if clip_or_prompt := next(elements(request.content(tensor)), None):
            return clip_or_prompt
    messages = next(elements(request.content(contract.MESSAGES)), memoryview(b""))
    return memoryview(_first_turn(bytes(messages)))


def _first_turn(messages: bytes) -> bytes:
    if len(messages) > IN_PLACE_BYTES:
        return messages[:BEGINNING_BYTES]
    try:
        turns = json.loads(messages)
        roles = [turn["role"] for turn in turns]
        return json.dumps(turns[: roles.index("user") + 1], sort_keys=True).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return messages  # a step will say what is wrong with it
