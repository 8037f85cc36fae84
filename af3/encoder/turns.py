"""Shares one encoder among requests: windows of different requests take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from af3.encoder.device_array import DeviceArray
from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.interface import Embeddings, Window
from af3.errors import RequestError
from af3.fair_turns import FairTurns


class Listener(Protocol):
    """Receives the result of one request, once, on the thread of `Turns`. Must not raise."""

    def encoded(self, table: np.ndarray | DeviceArray) -> None:
        """Receive the prompt table, [1, tokens, hidden_size]."""

    def failed(self, error: Exception) -> None:
        """The request ended without a table."""


class _Request:
    """A request's windows, the embeddings found so far, and the parts that are still to be encoded."""

    def __init__(self, request_id: str, windows: Sequence[Window], listener: Listener):
        self.request_id = request_id
        self.listener = listener
        self.windows = windows
        self.embeddings: list[Embeddings | None] = [None] * len(windows)
        self.parts: list[list[int]] | None = None  # None: not looked at yet
        self.stopped = False

    @property
    def left(self) -> int:
        return len(self.parts or ())


class Turns:
    """Encodes the windows of many requests on one encoder, in a thread of its own. Thread-safe.

    A turn is one run of the engine (`Encoder.parts`): on a CPU at most one window of 30 s. `FairTurns` says whose it
    is, so a short clip does not wait for a long one, nor a long one without end for short ones. A run never mixes
    windows of two requests, so no request's embeddings depend on its neighbours.
    """

    def __init__(self, encoder: CachedEncoder, turned: Callable[[bool], None] = lambda busy: None):
        """turned: called before and after every turn with whether there is work, on the thread of `Turns`."""
        self._encoder = encoder
        self._turned = turned
        self._changed = threading.Condition()
        self._requests: list[_Request] = []
        self._fair: FairTurns[_Request] = FairTurns()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, request_id: str, windows: Sequence[Window], listener: Listener) -> None:
        """Queue a request of one window or more. Raises RequestError after `close`."""
        with self._changed:
            if self._closed:
                raise _shutting_down()
            self._requests.append(_Request(request_id, windows, listener))
            self._changed.notify()

    def stop(self, request_id: str) -> None:
        """End a request before its next turn: it fails with CANCELLED. Ignores unknown ids."""
        with self._changed:
            for request in self._requests:
                request.stopped |= request.request_id == request_id

    def close(self) -> None:
        """Fail all requests and end the thread, after the turn at hand."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            self._turned(True)
            self._turn()
            self._turned(bool(self._requests))
        for request in list(self._requests):
            self._fail(request, _shutting_down())

    def _wait(self) -> bool:
        """Block until there is work; False after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._requests)
            return not self._closed

    def _turn(self) -> None:
        with self._changed:
            waiting = list(self._requests)
        for request in waiting:
            if request.stopped:
                self._fail(request, RequestError("CANCELLED", "the request was cancelled"))
            elif request.parts is None:
                self._attempt(request, self._look_up)
        with self._changed:
            waiting = [request for request in self._requests if request.left]
        if waiting:
            self._attempt(self._fair.next(waiting, lambda request: request.left), self._encode_next)

    def _attempt(self, request: _Request, act: Callable[[_Request], None]) -> None:
        """Nobody fails for another's request."""
        try:
            act(request)
            if request.left:
                return
            table = self._encoder.join([found for found in request.embeddings if found is not None])
        except Exception as error:
            self._fail(request, error)
            return
        self._forget(request)
        request.listener.encoded(table)

    def _look_up(self, request: _Request) -> None:
        """Windows in the cache need no turn, nor do those without a token."""
        for index, embeddings in self._encoder.cached(request.windows).items():
            request.embeddings[index] = embeddings
        new = [index for index, found in enumerate(request.embeddings) if found is None]
        parts = self._encoder.parts([request.windows[index] for index in new])
        request.parts = [[new[place] for place in part] for part in parts]
        self._encode(request, sorted(set(new).difference(*request.parts)))

    def _encode_next(self, request: _Request) -> None:
        assert request.parts, "a request without parts has ended"
        self._encode(request, request.parts.pop(0))

    def _encode(self, request: _Request, part: Sequence[int]) -> None:
        found = self._encoder.encode([request.windows[index] for index in part])
        for index, embeddings in zip(part, found, strict=True):
            request.embeddings[index] = embeddings

    def _fail(self, request: _Request, error: Exception) -> None:
        self._forget(request)
        request.listener.failed(error)

    def _forget(self, request: _Request) -> None:
        with self._changed:
            self._requests.remove(request)


def _shutting_down() -> RequestError:
    return RequestError("UNAVAILABLE", "the server is shutting down")
