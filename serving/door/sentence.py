"""What Triton says of a failed request → what a client is told: a status and a sentence without our insides."""

from __future__ import annotations

import re

from af3.errors import RequestError

ENSEMBLE = re.compile(r"^in ensemble '[^']*', ")
REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")
OURS = re.compile(r"^([A-Z_]+): (.*)$", re.DOTALL)
# A step that has died, or a server that goes. Everything else of Triton's own is about the request.
FAILURE = re.compile(
    r"stub process|not healthy|server is stopping|not (at )?ready|unavailable|failed to (process|initialize)"
    r"|shared memory|out of memory|unable to (allocate|create)|internal error",
    re.IGNORECASE,
)


def told(sentence: str) -> RequestError:
    """Errors of the steps begin with their status. Triton's own are about the request, or a failure of ours."""
    said = REQUEST_ID.sub("", ENSEMBLE.sub("", sentence))
    ours = OURS.match(said)
    if ours:
        return RequestError(ours[1], ours[2])  # type: ignore[arg-type]  # INTERNAL has no other way here
    if FAILURE.search(said):
        return failed()
    return RequestError("INVALID_ARGUMENT", said)


def failed() -> RequestError:
    """A part of the server has failed; the supervisor replaces it."""
    return RequestError(
        "UNAVAILABLE", "a part of the server failed and is being restarted; try again in a few seconds"
    )
