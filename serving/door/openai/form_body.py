"""A multipart/form-data body → its fields and its file, without a copy of the file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from af3.errors import invalid
from serving.door.openai.openai_errors import FieldError

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its client is told what is wrong

MAX_PARTS = 64
MAX_VALUE = 64 << 10  # bytes of a field that is not a file
MAX_HEADERS = 16
MAX_HEADER = 4096
CHARSETS = {"utf-8": "UTF-8", "utf8": "UTF-8", "us-ascii": "ASCII", "iso-8859-1": "ISO-8859-1"}
PLAIN = ("", "7bit", "8bit", "binary")


@dataclass
class Form:
    """`values`: texts by name, in their order; `file`: of the part with that name, None where there is none."""

    values: dict[str, list[str]] = field(default_factory=dict)
    file: memoryview | None = None


def parse_form(content_type: str, body: bytearray) -> Form:
    """Takes milliseconds for a body of megabytes; to be called in a thread. Raises RequestError."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data":
        raise invalid(f"Content-Type '{content_type[:64]}' is not read here; send multipart/form-data")
    if not boundary:
        raise invalid(
            "Content-Type multipart/form-data names no boundary; let your HTTP library set the header"
        )
    reader = _Reader(body)
    try:
        parser = MultipartParser(
            boundary, reader.callbacks(), max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER
        )
        parser.write(body)  # type: ignore[arg-type]  # only sliced and searched
        parser.finalize()
    except FormParserError:
        raise invalid("the body is not valid multipart/form-data") from None
    if not reader.ended:
        raise invalid("the body is not valid multipart/form-data: its end is missing")
    return reader.form


class _Reader:
    def __init__(self, body: bytearray):
        self._view = memoryview(body)
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._parts = 0
        self._spans: list[tuple[int, int]] = []
        self.form = Form()
        self.ended = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._done,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise invalid(f"the form has more than {MAX_PARTS} parts; send fewer")
        self._headers, self._spans = {}, []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += bytes(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += bytes(data[start:end])

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._spans and self._spans[-1][1] == start:
            start = self._spans.pop()[0]
        self._spans.append((start, end))

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise invalid(f"part {self._parts} of the form has no name in its Content-Disposition; name it")
        if name == "file":
            if self.form.file is not None:
                raise FieldError("file: stands twice; send one file a request", "file", "invalid_value")
            self.form.file = self._content()
            return
        content = self._content()
        if len(content) > MAX_VALUE:
            raise FieldError(
                f"{name[:64]}: {len(content)} bytes, at most {MAX_VALUE} are read",
                name[:64],
                "invalid_value",
            )
        text = self._text(name[:64], bytes(content))
        self.form.values.setdefault(name.removesuffix("[]"), []).append(text)

    def _text(self, name: str, content: bytes) -> str:
        """The value of a field, in the charset that its part names: Java's clients name ISO-8859-1."""
        coding = self._headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if coding not in PLAIN:
            raise FieldError(
                f"{name}: Content-Transfer-Encoding '{coding[:32]}' is not read; send it plain",
                name,
                "invalid_value",
            )
        _, options = parse_options_header(self._headers.get(b"content-type", b""))
        charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
        if charset not in CHARSETS:
            raise FieldError(
                f"{name}: charset '{charset[:32]}' is not read; send UTF-8", name, "invalid_value"
            )
        try:
            return content.decode(CHARSETS[charset])
        except UnicodeDecodeError:
            raise FieldError(f"{name}: not {CHARSETS[charset]} text", name, "invalid_value") from None

    def _content(self) -> memoryview:
        if len(self._spans) == 1:
            start, end = self._spans[0]
            return self._view[start:end]
        return memoryview(b"".join(self._view[start:end] for start, end in self._spans))

    def _done(self) -> None:
        self.ended = True
