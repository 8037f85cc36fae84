"""One session: a client's events → turns, items and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from af3.errors import RequestError
from serving.door.realtime import realtime_events as events
from serving.door.realtime.audio_formats import from_base64
from serving.door.realtime.conversation_items import Conversation, Item, from_client, no_item
from serving.door.realtime.input_turns import InputTurns, TurnCallbacks
from serving.door.realtime.realtime_answer import AnswerOptions, AnswerRun, Means
from serving.door.realtime.realtime_events import SHOWN, ClientEvent, Event, EventError, new_id
from serving.door.realtime.realtime_limits import AudioMemory, AudioShare
from serving.door.realtime.session_settings import Session, checked, merged
from serving.door.realtime.sound_worker import SoundLost
from serving.door.realtime.user_transcription import transcribe
from serving.door.triton_errors import internal_error

LARGE = 64 << 10  # bytes of an event that is parsed in a thread
MOST_RUNS = 4  # answers beside the conversation, and transcriptions, at once


class RealtimeSession:
    """Everything of one WebSocket but the socket. `closed(code, reason)` is called when it should end."""

    def __init__(self, means: Means, memory: AudioMemory, closed: Callable[[int, str], None]):
        self._means = means
        self._closed = closed
        self._emit = means.emit
        self._memory = AudioShare(memory, lambda count: self._conversation.forget(count))
        self._conversation = Conversation(self._memory.give_back)
        self._session = Session(new_id("sess"), int(time.time() + means.limits.session_s))
        callbacks = TurnCallbacks(self._emit, self._speech_started, self._committed)
        self._turns = InputTurns(means.worker, self._memory, callbacks)
        self._run: AnswerRun | None = None  # that of the conversation
        self._others: set[AnswerRun] = set()
        self._transcriptions: set[asyncio.Task[None]] = set()
        self._answer_next = False  # a turn was committed while another is answered
        self._draining = False
        self._handlers: dict[str, Callable[[ClientEvent], Awaitable[None] | None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": lambda event: self._turns.commit(),
            "input_audio_buffer.clear": lambda event: self._turns.clear(),
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
            "output_audio_buffer.clear": lambda event: None,  # of WebRTC, where the server plays
        }

    def begin(self) -> None:
        self._emit({"type": "session.created", "session": self._session.shown})

    async def take(self, frame: bytes) -> None:
        """One message of the client. Whatever it holds, the session goes on."""
        event_id = None
        try:
            event = (
                events.parse(frame) if len(frame) < LARGE else await asyncio.to_thread(events.parse, frame)
            )
            event_id = event.event_id
            handler = self._handlers.get(event.type)
            if handler is None:
                raise EventError(f"event '{event.type[:SHOWN]}' is not served", "unknown_event", "type")
            waiting = handler(event)
            if waiting is not None:
                await waiting
        except EventError as error:
            self._emit(events.error_event(error, event_id))
        except RequestError as error:
            self._emit({"type": "error", "error": events.error_body(error) | {"event_id": event_id}})
        except SoundLost as error:
            lost = RequestError("UNAVAILABLE", f"{error}; commit turns yourself, with turn_detection null")
            self._emit({"type": "error", "error": events.error_body(lost) | {"event_id": event_id}})
        except Exception as error:
            self._emit(
                {"type": "error", "error": events.error_body(internal_error(error)) | {"event_id": event_id}}
            )

    def refuse_binary(self) -> None:
        error = EventError(
            "binary frames are not read; send sound in input_audio_buffer.append", "invalid_frame"
        )
        self._emit(events.error_event(error, None))

    def drain(self) -> None:
        """End with the answer that is under way, or now."""
        self._draining = True
        if self._run is None:
            self._closed(1001, "the server is shutting down")

    async def close(self) -> None:
        """Leave nothing behind."""
        self._turns.close_detector()
        runs = [*self._others, *([] if self._run is None else [self._run])]
        self._draining = self._answer_next = False
        for run in runs:
            run.cancel("client_cancelled")
        for task in self._transcriptions:
            task.cancel()
        await asyncio.gather(*(run.ended() for run in runs), *self._transcriptions, return_exceptions=True)
        self._memory.close()

    # Settings

    def _update(self, event: ClientEvent) -> None:
        given = event.object("session")
        if given.get("type", "realtime") != "realtime":
            raise EventError(
                "session.type: only 'realtime' is served; set audio.input.transcription for transcripts",
                "unsupported",
                "session.type",
            )
        for refused in self._session.update(given):
            self._emit(events.error_event(refused, event.event_id))
        self._turns.configure(self._session.settings.audio.input)
        self._emit({"type": "session.updated", "session": self._session.shown})

    # Sound

    async def _append(self, event: ClientEvent) -> None:
        sound = event.sound("audio")
        await self._turns.append(from_base64(sound, "audio"))

    def _speech_started(self) -> None:
        detection = self._session.settings.audio.input.turn_detection
        if self._run is not None and detection is not None and detection.interrupt_response:
            self._run.cancel("turn_detected")

    def _committed(self, item: Item, by_pause: bool) -> None:
        settings = self._session.settings.audio.input
        previous = self._conversation.add(item)
        self._emit({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item.id})
        self._show_item(item, previous)
        if by_pause and settings.turn_detection is not None and settings.turn_detection.create_response:
            if self._run is None:
                self._answer(AnswerOptions())
            else:
                self._answer_next = True
        if settings.transcription is not None and len(self._transcriptions) < MOST_RUNS:
            task = self._means.spawn(self._transcribe(item, self._run))
            self._transcriptions.add(task)
            task.add_done_callback(self._transcriptions.discard)

    async def _transcribe(self, item: Item, run: AnswerRun | None) -> None:
        """The answer goes first: its first words are waited for."""
        if run is not None:
            await run.under_way.wait()
        await transcribe(self._means, item)

    # Items

    def _create_item(self, event: ClientEvent) -> None:
        item = from_client(event.object("item"), self._session.settings.audio.input.format.format)
        self._memory.take(item.held_bytes)
        try:
            previous = self._conversation.add(item, event.text("previous_item_id"))
        except EventError:
            self._memory.give_back(item.held_bytes)
            raise
        self._show_item(item, previous)

    def _show_item(self, item: Item, previous: str | None) -> None:
        for kind in ("added", "done"):
            shown = {"previous_item_id": previous, "item": item.shown()}
            self._emit({"type": f"conversation.item.{kind}", **shown})

    def _retrieve_item(self, event: ClientEvent) -> None:
        self._emit({"type": "conversation.item.retrieved", "item": self._item(event).shown()})

    def _delete_item(self, event: ClientEvent) -> None:
        item = self._item(event)
        self._conversation.delete(item.id)
        self._emit({"type": "conversation.item.deleted", "item_id": item.id})

    def _truncate_item(self, event: ClientEvent) -> None:
        """What the user has not heard of an answer was not said. More than there is of it means: all."""
        item = self._item(event)
        if item.role != "assistant":
            raise EventError("only an answer can be truncated", "invalid_value", "item_id")
        end_ms = event.body.get("audio_end_ms")
        if isinstance(end_ms, bool) or not isinstance(end_ms, int | float) or end_ms < 0:
            raise EventError("audio_end_ms is not a number of 0 or more", "invalid_value", "audio_end_ms")
        self._conversation.truncate(item, end_ms / 1000)
        self._emit(
            {
                "type": "conversation.item.truncated",
                "item_id": item.id,
                "content_index": 0,
                "audio_end_ms": round(end_ms),
            }
        )

    def _item(self, event: ClientEvent) -> Item:
        item_id = event.needed_text("item_id")
        item = self._conversation.find(item_id)
        if item is None:
            raise no_item(item_id, "item_id")
        return item

    # Responses

    def _create_response(self, event: ClientEvent) -> None:
        given = event.object("response")
        options = self._options(given)
        if options.kept and self._run is not None:
            raise EventError(
                f"response {self._run.id} is under way; wait for its response.done, or cancel it",
                "conversation_already_has_active_response",
            )
        if not options.kept and len(self._others) >= MOST_RUNS:
            raise EventError(f"{MOST_RUNS} responses are under way beside the conversation; wait", "too_many")
        if given.get("tools"):
            raise EventError("tools: functions are not called by this model", "unsupported", "response.tools")
        names = ("instructions", "output_modalities", "max_output_tokens", "audio", "temperature")
        shown = merged(
            self._session.shown, {name: given[name] for name in names if given.get(name) is not None}
        )
        self._answer(options, shown)

    def _options(self, given: Event) -> AnswerOptions:
        metadata, items = given.get("metadata"), given.get("input")
        if metadata is not None and not isinstance(metadata, dict):
            raise EventError("response.metadata is not a JSON object", "invalid_type", "response.metadata")
        if items is not None and not isinstance(items, list):
            raise EventError("response.input is not a list of items", "invalid_type", "response.input")
        if given.get("conversation") not in (None, "auto", "none"):
            raise EventError(
                "response.conversation is neither 'auto' nor 'none'", "invalid_value", "response.conversation"
            )
        instructions = given.get("instructions")
        return AnswerOptions(
            metadata=metadata,
            items=None if items is None else [self._given_item(item) for item in items],
            kept=given.get("conversation") != "none",
            unasked=instructions if isinstance(instructions, str) else "",
        )

    def _given_item(self, given: Any) -> Item:
        if not isinstance(given, dict):
            raise EventError(
                "response.input holds something that is no item", "invalid_type", "response.input"
            )
        if given.get("type") == "item_reference":
            item = self._conversation.find(str(given.get("id")))
            if item is None:
                raise no_item(str(given.get("id")), "response.input")
            return item
        return from_client(given, self._session.settings.audio.input.format.format)

    def _answer(self, options: AnswerOptions, shown: Event | None = None) -> None:
        settings = self._session.settings if shown is None else checked(shown, "response")
        run = AnswerRun(self._means, settings, self._conversation, options, self._answer_over)
        if options.kept:
            self._run = run
        else:
            self._others.add(run)
        run.begin()

    def _answer_over(self, run: AnswerRun) -> None:
        self._others.discard(run)
        if run is not self._run:
            return
        self._run = None
        if self._draining:
            self._closed(1001, "the server is shutting down")
        elif self._answer_next:
            self._answer_next = False
            self._answer(AnswerOptions())

    def _cancel_response(self, event: ClientEvent) -> None:
        """Nothing to cancel is no error: the answer may just have ended."""
        wanted = event.text("response_id")
        for run in [*self._others, *([] if self._run is None else [self._run])]:
            if run.id == wanted or (wanted is None and run is self._run):
                run.cancel("client_cancelled")
