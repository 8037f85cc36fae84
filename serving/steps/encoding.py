"""The `audio_encoder` step inside Triton: requests encoded in turns, or those of a call together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.encoder.device_array import DeviceArray
from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.interface import Window
from af3.encoder.turns import Turns
from af3.encoder.windows import windows_of
from af3.errors import RequestError
from af3.manifest import Limits
from serving import journal
from serving.heartbeat import Heart
from serving.steps import adapter

STEP = contract.AUDIO_ENCODER.name
Tables = Mapping[str, np.ndarray | DeviceArray]


class Encoding(Protocol):
    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Triton's `execute`."""

    def close(self) -> None:
        """End the requests in flight."""


def encoding(in_turns: bool, encoder: CachedEncoder, limits: Limits, heart: Heart) -> Encoding:
    return InTurns(encoder, limits, heart) if in_turns else Together(encoder, limits, heart)


class Together:
    """All requests of a call in one call of the encoder, for one so fast that nobody waits long."""

    def __init__(self, encoder: CachedEncoder, limits: Limits, heart: Heart):
        self._encoder, self._limits, self._heart = encoder, limits, heart
        self._figures = CacheFigures(encoder)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        with self._heart.at_work():
            responses = adapter.answer_together(requests, self._read, self._tables, STEP)
        self._figures.report()
        return responses

    def close(self) -> None:
        pass

    def _read(self, request: Any) -> list[Window]:
        return [] if _stops(request) else _windows(request, self._limits)

    def _tables(self, requests: Sequence[Sequence[Window]]) -> list[Tables]:
        tables = iter(self._encoder.tables([windows for windows in requests if windows]))
        return [
            {contract.PROMPT_EMBEDDING_TABLE.name: next(tables)} if windows else {} for windows in requests
        ]


class InTurns:
    """Windows of different requests in turns; a request without windows waits for none.

    `execute` returns before the responses are sent, which a step that is not decoupled may do since Triton 2.47.
    """

    def __init__(self, encoder: CachedEncoder, limits: Limits, heart: Heart):
        self._limits, self._heart = limits, heart
        self._figures = CacheFigures(encoder)
        self._turns = Turns(encoder, self._turned)

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            self._take(request, Reply(request.get_response_sender(), request.request_id()))

    def close(self) -> None:
        self._turns.close()

    def _take(self, request: Any, reply: Reply) -> None:
        try:
            if _stops(request):
                self._turns.stop(reply.request_id)
                reply.send({})
            elif windows := _windows(request, self._limits):
                self._turns.submit(reply.request_id, windows, reply)
            else:
                reply.end({})
        except Exception as error:
            reply.failed(error)

    def _turned(self, busy: bool) -> None:
        (self._heart.moved if busy else self._heart.idle)()
        self._figures.report()


class Reply:
    """Sends the result of one request (`af3.encoder.turns.Listener`)."""

    def __init__(self, sender: Any, request_id: str):
        self.request_id = request_id
        self._sender = sender
        self._began_s = time.monotonic()

    def encoded(self, table: np.ndarray | DeviceArray) -> None:
        self.end({contract.PROMPT_EMBEDDING_TABLE.name: table})

    def failed(self, error: Exception) -> None:
        self._send(adapter.failure(error))
        self._note(error.status if isinstance(error, RequestError) else "INTERNAL")

    def end(self, tensors: Tables) -> None:
        self.send(tensors)
        self._note("OK")

    def send(self, tensors: Tables) -> None:
        self._send(adapter.response(tensors))

    def _send(self, response: Any) -> None:
        try:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:  # the other requests must not fail with this one
            adapter.log.exception("a response could not be sent")

    def _note(self, status: str) -> None:
        ms = round(1000 * (time.monotonic() - self._began_s), 1)
        journal.write("stage", id=self.request_id, stage=STEP, status=status, ms=ms)


class CacheFigures:
    """The metrics of the embedding cache."""

    def __init__(self, encoder: CachedEncoder):
        self._encoder = encoder
        self._hits = adapter.counter("af3_embedding_cache_hits", "Audio windows that skipped the encoder")
        self._misses = adapter.counter("af3_embedding_cache_misses", "Audio windows that were encoded")
        self._bytes = adapter.gauge("af3_embedding_cache_bytes", "Embeddings kept for later questions")
        self._reported = 0, 0

    def report(self) -> None:
        """Update them, if they have changed: each costs a round trip to the server."""
        counts = self._encoder.hits, self._encoder.misses
        if counts == self._reported:
            return
        self._hits.increment(counts[0] - self._reported[0])
        self._misses.increment(counts[1] - self._reported[1])
        self._bytes.set(self._encoder.bytes)
        self._reported = counts


def _stops(request: Any) -> bool:
    found = adapter.array(request, contract.STOP)
    return found is not None and bool(found.any())


def _windows(request: Any, limits: Limits) -> list[Window]:
    pcm = adapter.required(request, contract.PCM)[0]
    lengths = adapter.required(request, contract.PCM_LENGTHS)[0]
    return windows_of(pcm, lengths, adapter.required(request, contract.WINDOW_INDEX)[0], limits)
