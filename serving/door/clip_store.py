"""Clips that are kept so that a client can name them instead of sending them again.

An element of `audio` that is `sha256:` and 64 hexadecimal digits stands for the file with that SHA-256. The door puts
the file in its place, or refuses with FAILED_PRECONDITION (HTTP 412): then the client sends the file. Kept is only what
is sent with the header `x-af3-keep-clips: true`, within a bound of bytes, and only for whoever holds the same API key.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from af3 import contract
from af3.errors import RequestError
from af3.inputs.base64_text import file_bytes

KEEP_HEADER = "x-af3-keep-clips"
REFERENCE = re.compile(rb"sha256:([0-9a-f]{64})")
REFERENCE_BYTES = 71
SHORTEST_BYTES = 4096  # less is sent as fast as it is named


class ClipStore:
    """Bounded by bytes; who has the most there loses the clip that they named longest ago. For one event loop."""

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self.bytes = 0
        self._of: dict[str, OrderedDict[str, bytes]] = {}
        self._bytes_of: dict[str, int] = {}

    def keep(self, owner: str, clips: Iterable[tuple[str, bytes]]) -> None:
        """clips: SHA-256 in hexadecimal digits, and the file."""
        for digest, clip in clips:
            own = self._of.setdefault(owner, OrderedDict())
            if digest not in own and len(clip) <= self.most_bytes:
                own[digest] = clip
                self._count(owner, len(clip))
                while self.bytes > self.most_bytes:
                    self._evict()
            if digest in own:
                own.move_to_end(digest)

    def find(self, owner: str, digest: str) -> bytes | None:
        own = self._of.get(owner)
        if own is None or digest not in own:
            return None
        own.move_to_end(digest)
        return own[digest]

    def _evict(self) -> None:
        owner = max(self._bytes_of, key=lambda one: self._bytes_of[one])
        _, clip = self._of[owner].popitem(last=False)
        self._count(owner, -len(clip))
        if not self._of[owner]:
            del self._of[owner], self._bytes_of[owner]

    def _count(self, owner: str, more: int) -> None:
        self.bytes += more
        self._bytes_of[owner] = self._bytes_of.get(owner, 0) + more


def digest_named(element: bytes | memoryview) -> str:
    """The SHA-256 that an element names instead of a clip; "" for a clip."""
    found = REFERENCE.fullmatch(element) if len(element) == REFERENCE_BYTES else None
    return "" if found is None else bytes(found[1]).decode()


def clips_to_keep(audio: memoryview) -> list[tuple[str, bytes]]:
    """The files in a tensor, base64 read, each with its SHA-256. Slow for large ones: to be called in a thread."""
    found = []
    for element in elements(audio):
        try:
            clip = file_bytes(bytes(element), contract.AUDIO.name)
        except RequestError:
            continue  # a step will say what is wrong with it
        if len(clip) >= SHORTEST_BYTES and not digest_named(element):
            found.append((hashlib.sha256(clip).hexdigest(), clip))
    return found


def names_a_clip(audio: memoryview) -> bool:
    return any(map(digest_named, elements(audio)))


def put_in_place(
    audio: memoryview, store: ClipStore, owner: str, most_bytes: int
) -> list[bytes | memoryview]:
    """The tensor with every named clip in place of its name, in pieces.

    Raises RequestError: FAILED_PRECONDITION for a clip that is not here, RESOURCE_EXHAUSTED for more than `most_bytes`.
    """
    parts: list[bytes | memoryview] = []
    total = 0
    for number, element in enumerate(elements(audio)):
        digest = digest_named(element)
        clip = store.find(owner, digest) if digest else element
        if clip is None:
            raise RequestError(
                "FAILED_PRECONDITION",
                f"{contract.AUDIO.name}[{number}]: the clip sha256:{digest} is not here; send the file, with"
                f" `{KEEP_HEADER}: true` to have it kept",
            )
        total += 4 + len(clip)
        if total > most_bytes:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"the named clips have more than {most_bytes} bytes together, the limit; name fewer",
            )
        parts += [len(clip).to_bytes(4, "little"), clip]
    return parts


def elements(content: bytes | memoryview) -> Iterator[memoryview]:
    """Split a BYTES tensor: on the wire each element follows its length (4 bytes, little endian)."""
    view, start = memoryview(content), 0
    while start + 4 <= len(view):
        end = start + 4 + int.from_bytes(view[start : start + 4], "little")
        yield view[start + 4 : end]
        start = end
