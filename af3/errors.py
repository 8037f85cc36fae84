"""The errors that a client sees."""

from __future__ import annotations

from typing import Literal

Status = Literal[
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
]


class RequestError(Exception):
    """A refused request, with a gRPC status and one sentence for the client.

    The sentence says which input, what was found, what is allowed and what to do. It contains no path and nothing of
    another request. retry_s: when to try again, for transient errors.
    """

    def __init__(self, status: Status, message: str, retry_s: int | None = None):
        super().__init__(message)
        self.status: Status = status
        self.message = message
        self.retry_s = retry_s


class Full(RequestError):
    """The server has no room for the request now; it may be accepted later."""

    def __init__(self, message: str, retry_s: int):
        super().__init__("UNAVAILABLE", message, retry_s)


def invalid(message: str) -> RequestError:
    """Build the most common error: the request itself is wrong."""
    return RequestError("INVALID_ARGUMENT", message)


def refuse_unless_one(prompt: bool, messages: bool) -> None:
    """A question is asked in one of two ways; each says whether it is there. Raises RequestError."""
    if prompt == messages:
        found = "both" if prompt else "neither"
        raise invalid(f"{found} of prompt and messages given; send exactly one of them")
