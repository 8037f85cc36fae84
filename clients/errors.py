"""Errors of a request: the gRPC status, and one sentence with the remedy."""

from __future__ import annotations

import grpc
from tritonclient.grpc import service_pb2

# gRPC's own details when it cannot reach a server or loses it; a server's own UNAVAILABLE (a full queue)
# comes with the server's sentence. gRPC gives no other way to tell them apart.
TRANSPORT_FAILURES = (
    "failed to connect",
    "errors resolving",
    "DNS resolution failed",
    "Stream removed",
    "Socket closed",
    "Connection reset",
    "Broken pipe",
    "recvmsg:",
    "GOAWAY",
)
# A proxy can only reset an answer that has begun, for which gRPC has INTERNAL; Envoy's sentence for one that had not.
LOST_BEHIND_A_PROXY = ("upstream connect error or disconnect/reset",)

STATUSES = frozenset(code.name for code in grpc.StatusCode)


class AudioFlamingoError(Exception):
    """A request that was not answered to its end.

    status: name of the gRPC status, such as "INVALID_ARGUMENT", "UNAVAILABLE" or "DEADLINE_EXCEEDED".
    message: which input, what was found, what is allowed, what to do.
    """

    def __init__(self, status: str, message: str):
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ServerNotReachable(AudioFlamingoError):
    """Nothing answers at the address, or the connection was lost: no fault of the request."""


def from_status(status: str, details: str, url: str) -> AudioFlamingoError:
    """The error for a gRPC status and its details, as the server at `url` or gRPC itself gave them."""
    if (status == "INTERNAL" and "RST_STREAM" in details) or details.startswith(LOST_BEHIND_A_PROXY):
        return ServerNotReachable(
            "UNAVAILABLE", f"the server behind {url} was lost before the answer was complete; ask again"
        )
    if status == "UNAVAILABLE" and details.startswith(TRANSPORT_FAILURES):
        return ServerNotReachable(
            status,
            f"no server at {url} ({_last_cause(details)});"
            " start one with `make serve`, or give the gRPC address of yours, host:port",
        )
    return AudioFlamingoError(status, _without_ensemble(details))


def from_sentence(sentence: str, url: str) -> AudioFlamingoError:
    """The error in a response of a stream that goes on: a sentence, which may begin with "STATUS: "."""
    status, colon, message = _without_ensemble(sentence).partition(": ")
    if colon and status in STATUSES:
        return from_status(status, message, url)
    return AudioFlamingoError("UNKNOWN", _without_ensemble(sentence))


def raise_error_in(response: service_pb2.ModelStreamInferResponse, url: str) -> None:
    """Raise the error that a response of the server at `url` carries, if it carries one."""
    if response.error_message:
        raise from_sentence(response.error_message, url)


def _last_cause(details: str) -> str:
    return details.rstrip("]").rsplit(": ", 1)[-1]


def _without_ensemble(details: str) -> str:
    """Triton puts "in ensemble 'audio_flamingo', " before what a step says."""
    if not details.startswith("in ensemble '"):
        return details
    return details.partition("', ")[2]
