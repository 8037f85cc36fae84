"""Gets the file in one element of `audio`: its bytes, or decoded base64 text."""

from __future__ import annotations

import binascii
import re
from contextlib import suppress

import pybase64

from af3.errors import RequestError, invalid
from af3.inputs.file_kind import file_kind

MEDIA_TYPE = re.compile(rb"data:[^,]{0,256},", re.IGNORECASE)
WHITESPACE = b" \t\r\n\f\v"
URL_SAFE = bytes.maketrans(b"-_", b"+/")
BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
SHORTEST_BARE = 64  # characters; shorter text is not taken for a file
PROBE = 4096
SEND = "send the file's bytes or data:audio/wav;base64,…"


def file_bytes(element: bytes, name: str) -> bytes:
    """Return the file in one element of `audio`: bytes, a `data:` URI or bare base64 text.

    Base64 may have whitespace and line breaks, lack padding, or use the URL-safe alphabet.
    Raises RequestError for a URL, a path, and text that is neither.
    """
    head = element[:512].lstrip(WHITESPACE)
    if head[:5].lower() == b"data:":
        return _data_uri(element.lstrip(WHITESPACE), name)
    _refuse_address(element, head, name)
    return _bare(element) or element


def _data_uri(element: bytes, name: str) -> bytes:
    header = MEDIA_TYPE.match(element)
    if header is None or not header[0].rstrip(b",").translate(None, WHITESPACE).lower().endswith(b";base64"):
        raise invalid(f"{name}: the data: URI is not base64; {SEND}")
    text = element[header.end() :]
    if b"%" in text:
        text = text.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")
    return _decoded(text, name)


def _bare(element: bytes) -> bytes | None:
    """Decode base64 text without `data:` if it holds an audio file; plain words can be valid base64 too."""
    if len(element) < SHORTEST_BARE or not BASE64.fullmatch(_plain(element[:PROBE])):
        return None
    try:
        data = _decoded(element, "")
    except RequestError:
        return None
    return data if file_kind(data).is_sound else None


def _plain(text: bytes) -> bytes:
    """Remove whitespace and padding, and convert to the standard alphabet."""
    return text.translate(URL_SAFE, WHITESPACE).rstrip(b"=")


def _decoded(text: bytes, name: str) -> bytes:
    # First as every library writes it: to look for other spellings costs five times as much as to decode.
    with suppress(binascii.Error):
        return pybase64.b64decode(text, validate=True)
    plain = _plain(text)
    try:
        return pybase64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise invalid(f"{name}: the base64 text is broken; encode the whole file again") from None


def _refuse_address(element: bytes, head: bytes, name: str) -> None:
    if re.match(rb"[a-z][a-z0-9+.-]{1,15}://", head, re.IGNORECASE):
        raise invalid(f"{name}: an address, not a file; the server fetches nothing: download it and {SEND}")
    if len(element) <= PROBE and re.fullmatch(
        rb"(~|\.{0,2}[/\\]|[A-Za-z]:[/\\])?[^\x00-\x1f]*\.\w{2,5}\s*", element
    ):
        raise invalid(
            f"{name}: the name of a file, not its bytes; the server opens no files of its own: {SEND}"
        )
    if head[:1] in (b"{", b"[") and (b'"type"' in head or b'"data"' in head or b'"url"' in head):
        raise invalid(f"{name}: JSON, not a file; {SEND} alone, without the content part around it")
