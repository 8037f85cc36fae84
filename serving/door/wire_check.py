"""Counts the parts of a serialised ModelInferRequest before it is parsed.

128 MB may hold tens of millions of empty submessages: parsing them would hold the door for seconds and take gigabytes.
Only the outlines are walked here, and the walk ends at the first part too many.
"""

from __future__ import annotations

from collections.abc import Iterator

from af3 import contract
from af3.errors import RequestError, invalid

SMALL_BYTES = 64 << 10  # not walked: whatever it holds is parsed in a moment
MAX_FIELDS = 256
MAX_PART_BYTES = 16 << 10  # of a name, a parameter, an output
# Field numbers of ModelInferRequest.
INPUTS, RAW_CONTENTS = 5, 7
CONTENTS = 5  # of InferInputTensor
BYTES_CONTENTS = 8  # of InferTensorContents
LENGTH_DELIMITED = 2


def refuse_many_parts(message: bytes) -> None:
    """Raise RequestError for a message with more parts than a request can need, or that is no protobuf."""
    if len(message) <= SMALL_BYTES:
        return
    for number, _, start, end in fields(message, 0, len(message), MAX_FIELDS):
        if number == RAW_CONTENTS or end - start <= MAX_PART_BYTES:
            continue
        if number != INPUTS:
            raise invalid(
                f"field {number} of the request has {end - start} bytes, at most {MAX_PART_BYTES} are read"
            )
        _refuse_many_elements(message, start, end)


def _refuse_many_elements(message: bytes, start: int, end: int) -> None:
    """An input that holds its contents itself, as clients without raw contents send them."""
    for number, _, inner, inner_end in fields(message, start, end, MAX_FIELDS):
        if number == CONTENTS:
            for kind, _, first, last in fields(message, inner, inner_end, contract.MAX_CLIPS):
                if kind != BYTES_CONTENTS and last - first > MAX_PART_BYTES:
                    raise invalid("an input holds numbers; all inputs are of type BYTES")
        elif inner_end - inner > MAX_PART_BYTES:
            raise invalid(
                f"field {number} of an input has {inner_end - inner} bytes, at most {MAX_PART_BYTES} are read"
            )


def fields(message: bytes, start: int, end: int, most: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, place, and start and end of the value, of each field of the message in message[start:end].

    Raises RequestError for more than `most`, and for what is no message.
    """
    for _ in range(most):
        if start == end:
            return
        place = start
        key, start = _varint(message, start, end)
        kind = key & 7
        if kind == LENGTH_DELIMITED:
            length, start = _varint(message, start, end)
            field_end = start + length
        elif kind == 0:
            _, field_end = _varint(message, start, end)
        elif kind in (1, 5):
            field_end = start + (8 if kind == 1 else 4)
        else:
            raise unreadable()
        if field_end > end:
            raise unreadable()
        yield key >> 3, place, start, field_end
        start = field_end
    if start != end:
        raise invalid(f"the request has more than {most} parts where none needs as many; send fewer")


def _varint(message: bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(start, min(end, start + 10)):
        value |= (message[place] & 0x7F) << 7 * (place - start)
        if message[place] < 0x80:
            return value, place + 1
    raise unreadable()


def unreadable() -> RequestError:
    return invalid("the message is not one of the KServe protocol; use its protobuf definitions")
