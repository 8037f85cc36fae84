"""A JSON body → Python values, so that no body can hold up the door.

The door's event loop, the supervisor and every stream share one interpreter lock, which `json.loads` holds from the
first byte to the last. So a body's structure is counted while it arrives and bounded (`StructureCount`); long
strings, which are clips, are cut out before the rest is parsed: they are copied once, and never become a `str`. What is
parsed, the rest of the body and those long strings that are text, is bounded (`MAX_PARSED`), spaces included.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from af3 import contract
from af3.errors import RequestError, invalid

MARKS = b',:[{"'
MAX_MARKS = 100_000
MAX_ESCAPES = 4_000_000  # PHP writes every "/" of a base64 text as "\/"
LONG_STRING = 16 << 10
# As many clips as a request may have that are no long strings, and a text in ASCII alone, which triples it.
MAX_PARSED = contract.MAX_CLIPS * LONG_STRING + 3 * contract.MAX_TEXT_BYTES
PIECE = 1 << 20
# Where a string can be divided: no escape, nor two for one character, reaches across, and no UTF-8 sequence.
DIVIDE = re.compile(rb"[^\\]{12}(?![\x80-\xbf])")
MAX_DIGITS = 40
MAX_DEPTH = 64  # of what is walked through; the parser itself goes deeper
BACKSLASH = ord("\\")


class StructureCount:
    """Counts what makes JSON expensive to parse, block by block: marks outside of strings, and escapes.

    A block without a quote that lies in a string, as the middle of a clip does, is looked at for quotes and escapes
    alone: looking for a byte takes a twentieth of the time of counting it.
    """

    def __init__(self) -> None:
        self._marks = 0
        self._escapes = 0
        self._in_string = False
        self._half_escape = b""  # the backslash that a block ended with

    def feed(self, buffer: bytes | bytearray, size: int) -> None:
        """The first `size` bytes of the buffer. Raises RequestError when it is too much."""
        if not size:
            return
        quoted = buffer.find(b'"', 0, size) >= 0
        escaped = buffer.find(b"\\", 0, size) >= 0
        if quoted or not self._in_string:
            self._marks += _count(MARKS, buffer, size)
        if escaped:
            self._escapes += buffer.count(b"\\", 0, size)
        if self._marks > MAX_MARKS or self._escapes > MAX_ESCAPES:
            raise invalid(
                f"the JSON has more than {MAX_MARKS} commas, colons, brackets and quotes; send fewer values"
            )
        if quoted or buffer[size - 1] == BACKSLASH:
            self._follow(bytes(memoryview(buffer)[:size]))
        else:
            self._half_escape = b""

    def _follow(self, block: bytes) -> None:
        """Whether the next block begins in a string."""
        rest = (self._half_escape + block).replace(b"\\\\", b"")
        self._half_escape = b"\\" if rest.endswith(b"\\") else b""
        quotes = rest.count(b'"') - rest.count(b'\\"')
        self._in_string ^= quotes % 2 == 1


def _count(marks: bytes, buffer: bytes | bytearray, size: int) -> int:
    """How many of the first `size` bytes are marks. Most blocks of a large body have none."""
    if all(buffer.find(mark, 0, size) < 0 for mark in marks):
        return 0
    return size - len(buffer[:size].translate(None, marks))


class _Parsed:
    """How much of a body has been parsed."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, count: int) -> None:
        """Raises RequestError when it is too much."""
        self._bytes += count
        if self._bytes > MAX_PARSED:
            raise invalid(
                f"the JSON has more than {MAX_PARSED} bytes of text, numbers and spaces; send less; a clip is one"
                " base64 string"
            )


class LongString:
    """A string of the body that was too long to be parsed with the rest; its JSON escapes are still in it."""

    def __init__(self, raw: memoryview, escaped: bool, parsed: _Parsed):
        self._raw = raw
        self._escaped = escaped
        self._parsed = parsed
        self._text: str | None = None

    def __repr__(self) -> str:
        return "a long string"  # in sentences about a field

    def as_bytes(self) -> bytes | memoryview:
        """UTF-8. Raises RequestError for broken escapes."""
        return b"".join(map(self._unescaped, self._pieces())) if self._escaped else self._raw

    def as_text(self) -> str:
        """Raises RequestError for broken escapes or UTF-8, and for a text too long to be parsed."""
        if self._text is None:
            self._parsed.add(len(self._raw))
            self._text = _string(bytes(self._raw))
        return self._text

    def _pieces(self) -> Iterator[bytes]:
        """The interpreter is free between one and the next."""
        start = 0
        while start + 2 * PIECE < len(self._raw):
            divided = DIVIDE.search(self._raw, start + PIECE, start + PIECE + LONG_STRING)
            if divided is None:
                break
            yield bytes(self._raw[start : divided.end()])
            start = divided.end()
        yield bytes(self._raw[start:])

    def _unescaped(self, piece: bytes) -> bytes:
        if piece.count(b"\\/") == piece.count(b"\\"):
            return piece.replace(b"\\/", b"/")
        if len(piece) > 2 * PIECE:
            self._parsed.add(len(piece))
        return utf8(_string(piece), "a string")


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in a body. Long strings in it are LongString. Raises RequestError for anything else.

    Takes milliseconds for a body that `StructureCount` has let through; to be called in a thread.
    """
    nonce, parsed = secrets.token_hex(8), _Parsed()
    skeleton, long_strings = _cut(body, nonce, parsed)
    try:
        value = json.loads(
            skeleton.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_int=_bounded(int),
            parse_float=_bounded(float),
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise _not_json() from None
    if not isinstance(value, dict):
        raise invalid('the body is not a JSON object; send {"name": value, …}')
    restored = _restore(value, nonce, long_strings, MAX_DEPTH) if long_strings else value
    assert isinstance(restored, dict)
    return restored


def utf8(text: str, name: str) -> bytes:
    """Raises RequestError for half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            f"{name}: character {error.start} is half of a surrogate pair; send valid Unicode"
        ) from None


def _cut(body: bytes | bytearray, nonce: str, parsed: _Parsed) -> tuple[bytes, list[LongString]]:
    """The body with each long string replaced by the nonce and its number."""
    if len(body) <= LONG_STRING:
        return bytes(body), []
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    found: list[LongString] = []
    kept = position = 0
    while (start := body.find(b'"', position)) >= 0:
        end = _string_end(body, start + 1)
        if end < 0:
            break  # the parser will say that it is not JSON
        if end - start > LONG_STRING:
            pieces += [view[kept : start + 1], f"{nonce}{len(found)}".encode()]
            found.append(LongString(view[start + 1 : end], body.find(b"\\", start, end) >= 0, parsed))
            kept = end
        position = end + 1
    pieces.append(view[kept:])
    parsed.add(sum(map(len, pieces)))
    return b"".join(pieces), found


def _string_end(body: bytes | bytearray, start: int) -> int:
    """Where the quote is that ends the string; -1 when there is none."""
    end = body.find(b'"', start)
    while end >= 0:
        backslashes = end
        while backslashes > start and body[backslashes - 1] == BACKSLASH:
            backslashes -= 1
        if (end - backslashes) % 2 == 0:
            return end
        end = body.find(b'"', end + 1)
    return -1


def _string(raw: bytes) -> str:
    """Raises RequestError for broken escapes or UTF-8."""
    try:
        text: str = json.loads(b'"' + raw + b'"')
    except ValueError:
        raise _not_json() from None
    return text


def too_deep() -> RequestError:
    return invalid(f"the JSON has lists and objects more than {MAX_DEPTH} deep in one another; send fewer")


def _restore(value: Any, nonce: str, found: list[LongString], depth: int) -> Any:
    if depth == 0:
        raise too_deep()
    if isinstance(value, dict):
        if any(key.startswith(nonce) for key in value):
            raise invalid(f"a key of the JSON has more than {LONG_STRING} bytes; shorten it")
        return {key: _restore(item, nonce, found, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, nonce, found, depth - 1) for item in value]
    if isinstance(value, str) and value.startswith(nonce):
        return found[int(value[len(nonce) :])]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise invalid(f"the key '{double[:64]}' stands twice in one JSON object; send it once")
    return made


def _bounded(kind: Callable[[str], float]) -> Callable[[str], float]:
    def number(digits: str) -> float:
        if len(digits) > MAX_DIGITS:
            raise invalid(f"a number has {len(digits)} digits; at most {MAX_DIGITS} are read")
        value = kind(digits)
        if value in (float("inf"), float("-inf")):
            raise invalid(f"the number {digits} is too large")
        return value

    return number


def _no_constant(name: str) -> NoReturn:
    raise invalid(f"{name} is not JSON; send a number")


def _not_json() -> RequestError:
    return invalid("the body is not valid JSON")
