"""A server that can be told to fail, for the page's tests: the page's files, and the OpenAI API as the page calls it.

What a real server does is tested with a real server; this one is for what a real server does not do on demand.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from serving.address import Ports, claim, listen
from serving.door.page.page_files import PageFiles
from serving.door.voices_list import VoicesList

HOST = "127.0.0.1"
HZ = 24000
LOUD = 600  # mean of |sample|
QUIET_S = 0.4
ANSWER = "I hear a long low tone that goes on and on until somebody says stop."


@dataclass
class Faults:
    """Sets how the next requests are answered."""

    refuse: tuple[int, str, dict[str, str]] | None = None  # status, message, headers of chat
    key: str | None = None
    break_off: bool = False  # the connection, in the middle of an answer
    fail_late: str | None = None  # an error event in the middle of an answer
    close: tuple[int, str] | None = None  # of the WebSocket, once it is open
    thoughts: str = ""
    slow_s: float = 0.01  # between words
    answer_s: float = 8.0
    events: list[dict[str, Any]] = field(default_factory=list)  # what the page sent over the WebSocket
    bodies: list[dict[str, Any]] = field(default_factory=list)  # what it sent to chat


class StandIn:
    """`url`: where it listens; `faults`: to be changed while it runs."""

    def __init__(self, port: int = 0) -> None:
        self.faults = Faults()
        self.port = claim(Ports(0, port, 0), HOST).http
        self.url = f"http://{HOST}:{self.port}"
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            WebSocketRoute("/v1/realtime", self._realtime),
            *VoicesList(["first", "second"]).routes,
            *PageFiles().routes,
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        listener = listen(HOST, self.port)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[listener]), daemon=True)

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        self._thread.start()
        while not self._server.started:
            threading.Event().wait(0.01)
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _allowed(self, request: Request) -> bool:
        key = self.faults.key
        return key is None or request.headers.get("authorization") == f"Bearer {key}"

    async def _models(self, request: Request) -> Response:
        if not self._allowed(request):
            return _error(401, "This server needs an API key.")
        return JSONResponse(
            {
                "object": "list",
                "data": [{"id": "stand-in", "object": "model", "created": 0, "owned_by": "test"}],
            }
        )

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.faults.bodies.append(body)
        if not self._allowed(request):
            return _error(401, "This server needs an API key.")
        if self.faults.refuse is not None:
            status, message, headers = self.faults.refuse
            return _error(status, message, headers)
        return StreamingResponse(self._answer(body), media_type="text/event-stream")

    async def _answer(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        spoken = "audio" in body.get("modalities", [])
        for word in self.faults.thoughts.split():
            yield _chunk({"reasoning_content": word + " "})
        for number, word in enumerate(ANSWER.split()):
            yield _chunk({"audio": {"transcript": word + " "}} if spoken else {"content": word + " "})
            await asyncio.sleep(self.faults.slow_s)
            if number == 3 and self.faults.fail_late is not None:
                yield b"data: " + json.dumps({"error": {"message": self.faults.fail_late}}).encode() + b"\n\n"
                return
            if number == 3 and self.faults.break_off:
                raise ConnectionError("broken off, as the test wants it")
        if spoken:
            for block in _tone(1.0):
                yield _chunk({"audio": {"data": base64.b64encode(block).decode()}})
        yield _chunk({}, "stop")
        usage = {"prompt_tokens": 1, "completion_tokens": 15, "total_tokens": 16}
        yield b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def _realtime(self, socket: WebSocket) -> None:
        offered = socket.headers.get("sec-websocket-protocol", "")
        if self.faults.key is not None and f"openai-insecure-api-key.{self.faults.key}" not in offered:
            await socket.close(1008)
            return
        await socket.accept("realtime")
        if self.faults.close is not None:
            await socket.close(*self.faults.close)
            return
        try:
            await _Talk(socket, self.faults).run()
        except WebSocketDisconnect:
            return


class _Talk:
    """One conversation: what is loud is speech, and every question gets the same answer."""

    def __init__(self, socket: WebSocket, faults: Faults) -> None:
        self._socket = socket
        self._faults = faults
        self._heard_s = 0.0
        self._speech = False
        self._quiet_s = 0.0
        self._turns = 0
        self._vad = True
        self._answering: asyncio.Task[None] | None = None

    async def _send(self, kind: str, **fields: Any) -> None:
        if self._socket.client_state == WebSocketState.CONNECTED == self._socket.application_state:
            await self._socket.send_json({"type": kind, "event_id": "e", **fields})

    async def run(self) -> None:
        await self._send("session.created", session={"type": "realtime"})
        while True:
            event = await self._socket.receive_json()
            if event["type"] != "input_audio_buffer.append":
                self._faults.events.append(event)
            match event["type"]:
                case "session.update":
                    self._vad = event["session"]["audio"]["input"]["turn_detection"] is not None
                    await self._send("session.updated", session=event["session"])
                case "input_audio_buffer.append":
                    await self._hear(np.frombuffer(base64.b64decode(event["audio"]), np.int16))
                case "input_audio_buffer.commit":
                    await self._committed()
                case "conversation.item.create":
                    item = {"id": f"user-{len(self._faults.events)}", **event["item"]}
                    await self._send("conversation.item.added", item=item, previous_item_id=None)
                case "response.create":
                    self._begin()
                case "response.cancel":
                    await self._cancel()
                case "conversation.item.truncate":
                    await self._send(
                        "conversation.item.truncated", **{k: v for k, v in event.items() if k != "type"}
                    )

    async def _hear(self, samples: np.ndarray) -> None:
        self._heard_s += len(samples) / HZ
        if not self._vad:
            return
        loud = bool(np.abs(samples.astype(np.int32)).mean() > LOUD)
        self._quiet_s = 0.0 if loud else self._quiet_s + len(samples) / HZ
        if loud and not self._speech:
            self._speech = True
            await self._send("input_audio_buffer.speech_started", audio_start_ms=0, item_id="next")
            await self._cancel()
        if self._speech and self._quiet_s > QUIET_S:
            self._speech = False
            await self._send("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id="next")
            await self._committed()
            self._begin()

    async def _committed(self) -> None:
        self._turns += 1
        name = f"said-{self._turns}"
        await self._send("input_audio_buffer.committed", item_id=name, previous_item_id=None)
        item = {
            "id": name,
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        await self._send("conversation.item.added", item=item, previous_item_id=None)
        said = "conversation.item.input_audio_transcription.completed"
        await self._send(said, item_id=name, content_index=0, transcript=f"question {self._turns}")

    def _begin(self) -> None:
        self._answering = asyncio.create_task(self._respond(self._turns))

    async def _cancel(self) -> None:
        if self._answering is None or self._answering.done():
            return
        self._answering.cancel()
        await asyncio.gather(self._answering, return_exceptions=True)

    async def _respond(self, turn: int) -> None:
        response, item = f"resp-{turn}", f"answer-{turn}"
        ids = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        made: dict[str, Any] = {"id": item, "type": "message", "role": "assistant", "content": []}
        status = "cancelled"
        await self._send("response.created", response={"id": response, "status": "in_progress", "output": []})
        try:
            await self._send("response.output_item.added", response_id=response, output_index=0, item=made)
            await self._send("conversation.item.added", item=made, previous_item_id=f"said-{turn}")
            await self._send("response.content_part.added", **ids, part={"type": "output_audio"})
            for word in ANSWER.split():
                await self._send("response.output_audio_transcript.delta", **ids, delta=word + " ")
            for block in _tone(self._faults.answer_s):
                await self._send("response.output_audio.delta", **ids, delta=base64.b64encode(block).decode())
                await asyncio.sleep(0.05)
            await self._send("response.output_audio.done", **ids)
            status = "completed"
        finally:
            await self._send("response.done", response={"id": response, "status": status, "output": [made]})


def _tone(seconds: float) -> Iterator[bytes]:
    samples = 0.2 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * HZ)) / HZ)
    pcm = (samples * 32767).astype("<i2").tobytes()
    step = 2 * HZ // 10
    return (pcm[start : start + step] for start in range(0, len(pcm), step))


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return (
        b"data: "
        + json.dumps({"id": "c", "model": "stand-in", "choices": [choice], "usage": None}).encode()
        + b"\n\n"
    )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(
        {"error": {"message": message, "type": "t", "param": None, "code": None}}, status, headers
    )
