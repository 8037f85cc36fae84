"""Events of a session: read, checked, and made."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from af3.errors import RequestError
from serving.door import json_body
from serving.door.json_body import LongString

Event = dict[str, Any]
SHOWN = 64
CODES = {
    "INVALID_ARGUMENT": ("invalid_request_error", "invalid_value"),
    "NOT_FOUND": ("invalid_request_error", "not_found"),
    "UNIMPLEMENTED": ("invalid_request_error", "unsupported"),
    "RESOURCE_EXHAUSTED": ("invalid_request_error", "too_large"),
    "UNAVAILABLE": ("server_error", "overloaded"),
    "DEADLINE_EXCEEDED": ("server_error", "timeout"),
}


class EventError(Exception):
    """A client's event that is refused. The session goes on."""

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None):
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


@dataclass(frozen=True)
class ClientEvent:
    """`event_id` is the client's own, if it gave one; it comes back in an error."""

    type: str
    event_id: str | None
    body: Event

    def text(self, name: str) -> str | None:
        """A string of the event, or None. Raises EventError for any other value."""
        value = self.body.get(name)
        if isinstance(value, LongString):
            value = value.as_text()
        if value is not None and not isinstance(value, str):
            raise EventError(f"{name} is not a string; put it in quotes", "invalid_type", name)
        return value

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise EventError(f"{self.type} needs '{name}'", "missing_required_parameter", name)
        return value

    def sound(self, name: str) -> str | bytes | memoryview:
        """Base64, which is not copied when it is long. Raises EventError for any other value."""
        value = self.body.get(name)
        if isinstance(value, LongString):
            return value.as_bytes()
        if not isinstance(value, str):
            raise EventError(
                f"{self.type} needs '{name}', base64 of sound", "missing_required_parameter", name
            )
        return value

    def object(self, name: str) -> Event:
        """An object of the event; empty when there is none. Raises EventError for any other value."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, dict):
            raise EventError(f"{name} is not a JSON object", "invalid_type", name)
        return plain(value or {}, name)


def parse(frame: bytes) -> ClientEvent:
    """Raises EventError for what is no event."""
    try:
        count = json_body.StructureCount()
        count.feed(frame, len(frame))
        body = json_body.parse(frame)
    except RequestError as error:
        raise EventError(error.message, "invalid_json") from None
    event_id = body.get("event_id")
    kind = body.get("type")
    if not isinstance(kind, str):
        raise EventError("an event needs 'type', a string", "missing_required_parameter", "type")
    return ClientEvent(kind, event_id[:512] if isinstance(event_id, str) else None, body)


def plain(value: Any, name: str, depth: int = json_body.MAX_DEPTH) -> Any:
    """The value with its long strings as `str`.

    Raises EventError for broken escapes or half characters, and for objects deep in one another.
    """
    if depth == 0:
        raise EventError(json_body.too_deep().message, "invalid_value", name)
    if isinstance(value, LongString):
        try:
            value = value.as_text()
        except RequestError as error:
            raise EventError(error.message, "invalid_value", name) from None
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            raise EventError(f"{name}: half of a surrogate pair; send valid Unicode", "invalid_value", name)
        return value
    if isinstance(value, dict):
        return {plain(key, name): plain(item, name, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, name, depth - 1) for item in value]
    return value


def new_id(kind: str) -> str:
    """Such as item_3f…: what the server names."""
    return f"{kind}_{secrets.token_hex(12)}"


def error_event(error: EventError, event_id: str | None) -> Event:
    body = {
        "type": "invalid_request_error",
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "event_id": event_id,
    }
    return {"type": "error", "error": body}


def error_body(error: RequestError) -> Event:
    """A failure of the server or of what it was asked, as it stands in events."""
    kind, code = CODES.get(error.status, ("server_error", "internal_error"))
    return {"type": kind, "code": code, "message": error.message, "param": None}
