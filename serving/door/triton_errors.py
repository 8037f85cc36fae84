"""Translates Triton's error into a status and a sentence for the client, without paths or names of processes."""

from __future__ import annotations

import logging
import re
import secrets
from typing import get_args

from tritonclient.grpc import service_pb2

from af3.errors import RequestError, Status

log = logging.getLogger("af3.door")
RETRY_S = 5
STATUSES: tuple[Status, ...] = get_args(Status)
# Triton puts these before a sentence. The id is the door's own: no text of a client stands here.
PREFIX = re.compile(r"^(\[request id: \w*\] )?(in ensemble '\w+', )?(\[request id: \w*\] )?")
FROM_A_STEP = re.compile(rf"({'|'.join(STATUSES)}): (.*)", re.DOTALL)
NO_SHARED_MEMORY = re.compile(
    r"(Failed to process the request\(s\) for model '\w+', message: .{0,80})?"
    r"Failed to increase the shared memory pool",
    re.DOTALL,
)
# Triton's own phrases for a step that has died, or a server that is stopping; at the start of the sentence, so that
# nothing a client named can be taken for them. All else of Triton's own is about the request.
DIED = re.compile(
    r"Stub process|Server is stopping|Failed to (process|initialize|create|allocate)|Unable to (allocate|create)"
    r"|Request for unknown model|failed to (allocate|open|get)|Internal error|Out of memory|unable to (allocate|create)"
    r"|.{0,40}(is not healthy|is not (at )?ready)",
)

# It comes where a step showed no life for a second, as on a paused machine. The step may live and answer later;
# Triton 2.51 then takes that answer for the next request's, frees memory twice, and crashes sooner or later.
GIVEN_UP = re.compile(r"Stub process ('\w+' )?is not healthy|Failed to obtain the health mutex")


def gives_up_a_step(message: bytes) -> bool:
    """Whether Triton says in this ModelStreamInferResponse that it no longer waits for a step."""
    if b"health" not in message:
        return False
    return is_given_up(service_pb2.ModelStreamInferResponse.FromString(message).error_message)


def is_given_up(sentence: str) -> bool:
    """The same of an error's sentence."""
    return GIVEN_UP.match(sentence, PREFIX.match(sentence).end()) is not None  # type: ignore[union-attr]


def from_triton(sentence: str) -> RequestError:
    """A step's errors begin with their status. Triton's own are about the request, or say that a step died."""
    said = sentence[PREFIX.match(sentence).end() :]  # type: ignore[union-attr]  # it matches the empty string
    ours = FROM_A_STEP.fullmatch(said)
    if ours:
        return RequestError(ours[1], ours[2])  # type: ignore[arg-type]
    if NO_SHARED_MEMORY.match(said):
        return RequestError(
            "UNAVAILABLE",
            "the server has too little shared memory (/dev/shm) for this request; send shorter clips, or have"
            " its operator enlarge it",
        )
    if DIED.match(said):
        return step_died()
    return RequestError("INVALID_ARGUMENT", said)


def step_died() -> RequestError:
    """A part of the server has failed; the supervisor replaces it."""
    return RequestError(
        "UNAVAILABLE",
        "a part of the server failed and is being restarted; try again in a few seconds",
        retry_s=RETRY_S,
    )


def internal_error(error: Exception) -> RequestError:
    """A fault of the door's own: the traceback goes to the log, a reference number to the client."""
    reference = secrets.token_hex(4)
    log.error("internal error %s", reference, exc_info=error)
    return RequestError("INTERNAL", f"internal error, reference {reference}")
