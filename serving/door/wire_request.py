"""A serialised ModelInferRequest, the contents of whose tensors protobuf never sees.

Protobuf copies a clip each time it is set, read or written, and holds the interpreter meanwhile: of 20 MB that is tens
of milliseconds each time, in which no stream goes on. Here they are copied once, into the message that Triton gets;
what came as a message is put together with the door's id only where it is sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from tritonclient.grpc import service_pb2

from af3 import contract
from serving.door.wire_check import LENGTH_DELIMITED, MAX_FIELDS, RAW_CONTENTS, SMALL_BYTES, fields

CONTENTS_KEY = bytes([RAW_CONTENTS << 3 | LENGTH_DELIMITED])
Piece = bytes | memoryview


class WireRequest:
    """head: everything but raw_input_contents. contents: those, one for each input, as they stand in `parts`.

    parts: the message, in pieces. request_id: the door's own, which they have. Of a field that stands twice in a
    message the last one counts.
    """

    def __init__(
        self, head: service_pb2.ModelInferRequest, parts: tuple[bytes, ...], contents: Sequence[memoryview]
    ):
        self.head = head
        self.parts = parts
        self.contents = contents
        self.request_id = head.id

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.parts))

    def content(self, wanted: contract.Tensor) -> memoryview:
        """A tensor as it is on the wire; empty for none."""
        for tensor, content in zip(self.head.inputs, self.contents, strict=False):
            if tensor.name == wanted.name:
                return content
        return memoryview(b"")

    def with_content(self, wanted: contract.Tensor, pieces: Sequence[Piece]) -> WireRequest:
        """The same request, with this content of an input that it has. To be called in a thread."""
        place = [tensor.name for tensor in self.head.inputs].index(wanted.name)
        contents: list[Sequence[Piece]] = [[content] for content in self.contents]
        contents[place] = pieces
        return written(self.head, contents)

    def whole(self) -> service_pb2.ModelInferRequest:
        """As protobuf has it."""
        return service_pb2.ModelInferRequest.FromString(b"".join(self.parts))


NOTHING = WireRequest(service_pb2.ModelInferRequest(), (), ())


def written(head: service_pb2.ModelInferRequest, contents: Iterable[Sequence[Piece]]) -> WireRequest:
    """Write a request. contents: of each input, in pieces that are put together. Takes milliseconds for a large clip:
    to be called in a thread.
    """
    head.id = uuid.uuid4().hex
    parts: list[Piece] = [head.SerializeToString()]
    end, spans = len(parts[0]), []
    for pieces in contents:
        size = sum(map(len, pieces))
        key = CONTENTS_KEY + _varint(size)
        parts += [key, *pieces]
        spans.append((end + len(key), end + len(key) + size))
        end = spans[-1][1]
    message = b"".join(parts)
    view = memoryview(message)
    return WireRequest(head, (message,), [view[start:end] for start, end in spans])


def read(raw: bytes) -> tuple[WireRequest, str]:
    """A request that came serialised, under an id of the door's own; and the id that its client gave it.

    Raises RequestError, or protobuf's DecodeError, for what is none.
    """
    rest, spans = _apart(raw)
    head = service_pb2.ModelInferRequest.FromString(rest)
    client_id, head.id = head.id, uuid.uuid4().hex
    view = memoryview(raw)
    contents = [view[start:end] for start, end in spans] or [
        memoryview(one) for one in head.raw_input_contents
    ]
    del head.raw_input_contents[:]
    own_id = service_pb2.ModelInferRequest(id=head.id).SerializeToString()
    return WireRequest(head, (raw, own_id), contents), client_id


def _apart(raw: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """A large message without the contents of its tensors, and where they are; a small one as it is."""
    if len(raw) <= SMALL_BYTES:
        return raw, []
    view, rest, spans, kept = memoryview(raw), [], [], 0
    for number, before, start, end in fields(raw, 0, len(raw), MAX_FIELDS):
        if number == RAW_CONTENTS:
            rest.append(view[kept:before])
            spans.append((start, end))
            kept = end
    return b"".join([*rest, view[kept:]]), spans


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
