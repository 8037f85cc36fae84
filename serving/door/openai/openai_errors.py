"""Builds the errors of the OpenAI API: a status, and a body with all four keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from af3.errors import Full, RequestError, Status
from serving.door.http_body import CODES as HTTP_CODES

# The field named at the beginning of a sentence: parameter 'max_tokens': … | messages[2].content[0]: … | model …
FIELD = re.compile(r"parameter '(?P<parameter>\w+)'|(?P<path>[a-z_]+(?:\[\d+\]|\.[a-z_]+)*):")
TYPES: Mapping[str, str] = {
    "INVALID_ARGUMENT": "invalid_request_error",
    "NOT_FOUND": "invalid_request_error",
    "ALREADY_EXISTS": "invalid_request_error",
    "FAILED_PRECONDITION": "invalid_request_error",
    "UNIMPLEMENTED": "invalid_request_error",
    "DEADLINE_EXCEEDED": "invalid_request_error",
    "RESOURCE_EXHAUSTED": "invalid_request_error",
    "UNAUTHENTICATED": "invalid_request_error",
    "PERMISSION_DENIED": "invalid_request_error",
}
OURS = "server_error"
CODES: Mapping[str, str] = {
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "request_too_large",
    "UNAUTHENTICATED": "invalid_api_key",
    "PERMISSION_DENIED": "permission_denied",
    "UNAVAILABLE": "server_unavailable",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "cancelled",
    "INTERNAL": "internal_error",
    "UNIMPLEMENTED": "unsupported_value",
}
WRONG_VALUE = "invalid_value"


class FieldError(RequestError):
    """A refusal that knows its field and OpenAI's code for it."""

    def __init__(self, message: str, param: str | None, code: str, status: Status = "INVALID_ARGUMENT"):
        super().__init__(status, message)
        self.param = param
        self.code = code


def error_object(error: RequestError) -> dict[str, str | None]:
    """The object under `error`: message, type, param, code."""
    kind = TYPES.get(error.status, OURS)
    if isinstance(error, FieldError):
        return {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    if _too_much(error):
        return {
            "message": error.message,
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    code = CODES.get(error.status, WRONG_VALUE)
    return {"message": error.message, "type": kind, "param": _field(error.message), "code": code}


def error_code(error: RequestError) -> int:
    """HTTP's. Clients wait and try again after 429, and take 503 for a server that is down.

    A request that runs out of its own time is no fault of the server, as 504 would be.
    """
    if _too_much(error):
        return 429
    return 408 if error.status == "DEADLINE_EXCEEDED" else HTTP_CODES[error.status]


def error_body(error: RequestError) -> bytes:
    return json.dumps({"error": error_object(error)}).encode()


def unsupported(param: str, why: str) -> FieldError:
    """The request asks for what the model or the server does not do."""
    return FieldError(f"{param}: {why}; leave it out", param, "unsupported_parameter")


def model_not_found(name: str, known: tuple[str, ...]) -> FieldError:
    return FieldError(
        f"model '{name[:64]}' is not served here; ask {' or '.join(known)}",
        "model",
        "model_not_found",
        "NOT_FOUND",
    )


def _too_much(error: RequestError) -> bool:
    """A quota, or a full server: the same request may be taken later."""
    quota = error.status == "RESOURCE_EXHAUSTED" and error.retry_s is not None
    return quota or isinstance(error, Full)


def _field(sentence: str) -> str | None:
    """The field that a sentence of the server is about. It speaks of `audio[1]` where a clip stands in a message."""
    found = FIELD.match(sentence)
    if found is None:
        return None
    return found["parameter"] or found["path"]
