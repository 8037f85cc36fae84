"""A client of Realtime as a test reads it: one WebSocket, events by their type."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

Event = dict[str, Any]
WAIT_S = 60.0  # on a busy machine the process that hears takes seconds to start


class Talker:
    """`events`: all that have come. Use it as a context manager; the first event is read then."""

    def __init__(self, url: str, query: str = "?model=any", **options: Any):
        self._url = f"{url}/v1/realtime{query}"
        self._options = options
        self.events: list[Event] = []

    def __enter__(self) -> Talker:
        self._opened = connect(self._url, max_size=None, compression=None, **self._options)
        self.socket: ClientConnection = self._opened.__enter__()
        self.until("session.created")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def update(self, **session: Any) -> Event:
        self.send("session.update", session={"type": "realtime", **session})
        return self.until("session.updated")["session"]

    def say(self, text: str, **response: Any) -> None:
        """A text of the user, to be answered."""
        self.add(text)
        self.send("response.create", response=response)

    def add(self, text: str) -> str:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        return self.until("conversation.item.added")["item"]["id"]

    def append(self, pcm: np.ndarray | bytes, block: int = 4800) -> None:
        """Sound in the session's format, in blocks of so many bytes."""
        data = pcm if isinstance(pcm, bytes) else pcm.astype("<i2").tobytes()
        for start in range(0, len(data), block):
            piece = base64.b64encode(data[start : start + block]).decode()
            self.send("input_audio_buffer.append", audio=piece)

    def next(self, timeout_s: float = WAIT_S) -> Event:
        event: Event = json.loads(self.socket.recv(timeout_s))
        self.events.append(event)
        return event

    def until(self, kind: str, timeout_s: float = WAIT_S) -> Event:
        """The next event of that type; those before it are in `events`."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            if (event := self.next(left_s))["type"] == kind:
                return event
        raise TimeoutError(f"no {kind} within {timeout_s:g} s; {self.kinds()}")

    def seen(self, kind: str, timeout_s: float = WAIT_S) -> Event:
        """The last event of that type that has come, or the next."""
        found = self.of(kind)
        return found[-1] if found else self.until(kind, timeout_s)

    def kinds(self, start: int = 0) -> list[str]:
        return [event["type"] for event in self.events[start:]]

    def of(self, kind: str, start: int = 0) -> list[Event]:
        return [event for event in self.events[start:] if event["type"] == kind]

    def speech(self, start: int = 0) -> bytes:
        """What was spoken, in the session's format."""
        deltas = self.of("response.output_audio.delta", start)
        return b"".join(base64.b64decode(event["delta"]) for event in deltas)

    def closed(self, timeout_s: float = WAIT_S) -> tuple[int, str]:
        """Wait for the server to close; code and reason."""
        end = time.monotonic() + timeout_s
        try:
            while time.monotonic() < end:
                self.next(max(0.1, end - time.monotonic()))
        except ConnectionClosed as error:
            assert error.rcvd is not None, "cut off without a close"
            return error.rcvd.code, error.rcvd.reason
        raise TimeoutError("not closed")


def spoken(events: Sequence[Event]) -> str:
    """The words of an answer, as they came."""
    kinds = ("response.output_audio_transcript.delta", "response.output_text.delta")
    return "".join(event["delta"] for event in events if event["type"] in kinds)
