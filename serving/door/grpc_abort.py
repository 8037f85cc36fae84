"""Ends a failed gRPC call."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn

import grpc
import grpc.aio

from af3.errors import RequestError

GONE = (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)  # the client has left
SERVERS_OWN = frozenset({"INTERNAL", "UNAVAILABLE"})


async def abort(context: grpc.aio.ServicerContext, error: RequestError) -> NoReturn:
    """End a call with a status.

    Proxies take a server out of use for errors that come in place of a head (Envoy: consecutive_5xx, among which it has
    UNIMPLEMENTED and DEADLINE_EXCEEDED). What the client brought about comes after a head, so that nobody can have a
    server taken away from the others; what another server may do better does not, so that it is asked.
    """
    if error.status not in SERVERS_OWN:
        with suppress(*GONE):  # or it has been sent
            await context.send_initial_metadata(())
    await context.abort(getattr(grpc.StatusCode, error.status), error.message)
    raise AssertionError("abort raises")
