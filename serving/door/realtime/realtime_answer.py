"""One response: the model's answer to the conversation, as events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError
from serving.door.realtime.audio_formats import to_base64
from serving.door.realtime.conversation_items import Asked, Conversation, Item, Part, asked
from serving.door.realtime.heard_text import HeardText
from serving.door.realtime.realtime_events import Event, error_body, new_id
from serving.door.realtime.realtime_limits import RealtimeLimits
from serving.door.realtime.realtime_question import Usage, ask
from serving.door.realtime.session_settings import FIRST_VOICE, SessionSettings
from serving.door.realtime.sound_worker import SoundLost, SoundWorker
from serving.door.realtime.speech_out import SpeechOut
from serving.door.relay import Relay
from serving.door.triton_errors import internal_error

# The sentences of af3/inputs/prompt.py and request_check.py for a conversation that is too long for these engines.
TOO_LONG = re.compile(
    r"tokens of one sequence|audio tokens, more than|tokens, more than the|of text that one request may"
)


@dataclass(frozen=True)
class Means:
    """The part of a session that its answers use."""

    relay: Relay
    worker: SoundWorker
    limits: RealtimeLimits
    emit: Callable[[Event], None]
    context: Context = field(default_factory=copy_context)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task for this session's caller: the process that hears wakes sessions from a task of its own."""
        return self.context.run(asyncio.ensure_future, work)


@dataclass(frozen=True)
class AnswerOptions:
    """items: to answer instead of the conversation. kept: whether the answer becomes a part of the conversation.

    unasked: text that is answered where no turn of the user waits for an answer.
    """

    metadata: Event | None = None
    items: Sequence[Item] | None = None
    kept: bool = True
    unasked: str = ""


@dataclass
class _Progress:
    text: str = ""
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)


class AnswerRun:
    """From `begin` to `response.done`. `cancel` may be called at any time."""

    def __init__(
        self,
        means: Means,
        settings: SessionSettings,
        conversation: Conversation,
        options: AnswerOptions,
        on_over: Callable[[AnswerRun], None],
    ):
        self.id = new_id("resp")
        self.under_way = asyncio.Event()  # the first of it has come, or it is over
        self.over = False
        self._means = means
        self._settings = settings
        self._conversation = conversation
        self._options = options
        self._on_over = on_over
        self._item = Item(new_id("item"), "assistant", status="in_progress")
        self._part = Part("output_audio" if settings.spoken else "output_text")
        self._progress = _Progress()
        self._begun = False
        self._speech: SpeechOut | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._emit("response.created", response=self._shown("in_progress"))
        self._task = self._means.spawn(self._run())

    def cancel(self, reason: str) -> None:
        """Emit the end now, and stop what is under way. `reason`: turn_detected or client_cancelled."""
        if self.over:
            return
        spoken, speech = self._part.spoken, self._speech
        self._finish("cancelled", {"type": "cancelled", "reason": reason})
        if self._begun and self._settings.spoken:
            heard_s = 0.0 if speech is None else speech.heard_s
            self._item.heard = "" if spoken is None else spoken.until(heard_s)
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it runs any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            await self._answer()
            status = "incomplete" if self._progress.finish_reason == "length" else "completed"
            details = (
                {"type": "incomplete", "reason": "max_output_tokens"} if status == "incomplete" else None
            )
            self._finish(status, details)
        except RequestError as error:
            self._fail(error)
        except SoundLost as error:
            self._fail(RequestError("UNAVAILABLE", str(error)))
        except Exception as error:
            self._fail(internal_error(error))

    def _fail(self, error: RequestError) -> None:
        said = {name: value for name, value in error_body(error).items() if name != "param"}  # of no field
        self._finish("failed", {"type": "failed", "error": said})

    async def _answer(self) -> None:
        """Ask; a conversation that is too long for these engines is asked again with half of it."""
        most: int | None = None
        while True:
            question = self._question(most)
            try:
                await self._once(question)
                return
            except RequestError as error:
                turns = sum(message["role"] != "system" for message in question.messages)
                # More than asked for: the user's last turn, of which nothing is left out, is too long by itself.
                least = turns < 2 or (most is not None and turns > most)
                if self._begun or least or not TOO_LONG.search(error.message):
                    raise
                most = turns // 2

    def _question(self, most: int | None) -> Asked:
        instructions = self._settings.instructions
        if self._options.items is not None:
            question = asked(self._options.items, instructions, self._means.limits.clip_s, most)
        else:
            question = self._conversation.asked(instructions, self._means.limits.clip_s, most)
        if not question.messages or question.messages[-1]["role"] != "user":
            if not self._options.unasked:
                raise RequestError(
                    "INVALID_ARGUMENT",
                    "there is nothing to answer: no turn of the user waits for an answer; add one with"
                    " conversation.item.create, commit some sound, or give the response instructions of its own",
                )
            question.messages.append({"role": "user", "content": self._options.unasked})
        return question

    async def _once(self, question: Asked) -> None:
        settings = self._settings
        ensemble = contract.AUDIO_FLAMINGO_SPEECH if settings.spoken else contract.AUDIO_FLAMINGO
        self._progress.usage.hears(question.clips)
        parameters = settings.parameters(self._means.limits.answer_tokens)
        answer = await ask(self._means.relay, ensemble.name, question, parameters, self.id)
        async with answer:
            async for response in answer:
                await self._take(response.infer_response)
        if self._part.spoken is not None:
            self._part.spoken.complete = True
        if self._speech is not None:
            await self._speech.finish()

    async def _take(self, response: service_pb2.ModelInferResponse) -> None:
        found = {
            output.name: raw
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)
        }
        if not found:
            return  # the empty final response
        if not self._begun:
            self._begin_item()
        if contract.TEXT.name in found and (text := _text(found[contract.TEXT.name])):
            self._progress.text += text
            self._part.text = self._progress.text
            kind = "output_audio_transcript" if self._settings.spoken else "output_text"
            self._emit_part(f"response.{kind}.delta", delta=text)
        if contract.TOKEN_COUNT.name in found:
            self._progress.usage.tokens = _number(found[contract.TOKEN_COUNT.name])
            self._progress.finish_reason = _text(found[contract.FINISH_REASON.name])
        if contract.PROMPT_TOKENS.name in found:
            self._progress.usage.prompt_tokens = _number(found[contract.PROMPT_TOKENS.name])
            self._progress.usage.audio_tokens = _number(found[contract.AUDIO_TOKENS.name])
        if contract.SPEECH_ERROR.name in found:
            reason = f"no more speech follows: {_text(found[contract.SPEECH_ERROR.name])}"
            self._emit("error", error=error_body(RequestError("UNAVAILABLE", reason)) | {"event_id": None})
        if contract.SPEECH.name in found:
            await self._speak(found)
        self.under_way.set()

    async def _speak(self, found: dict[str, bytes]) -> None:
        if self._speech is None or self._part.spoken is None:
            audio = self._settings.audio.output.format.format
            self._speech = SpeechOut(self._means.worker, audio, self._means.limits.ahead_s, self._send_speech)
            self._part.spoken = HeardText(self._settings.audio.output.speed)
        if contract.SPEECH_TEXT.name in found:
            self._part.spoken.begins(_text(found[contract.SPEECH_TEXT.name]))
        hz = _number(found[contract.SAMPLE_RATE.name])
        self._part.spoken.add(len(found[contract.SPEECH.name]) / 2 / hz)
        await self._speech.put(found[contract.SPEECH.name], hz)

    def _send_speech(self, block: bytes) -> None:
        self._emit_part("response.output_audio.delta", delta=to_base64(block))

    def _begin_item(self) -> None:
        self._begun = True
        self._emit("response.output_item.added", response_id=self.id, output_index=0, item=self._item.shown())
        if self._options.kept:
            previous = self._conversation.add(self._item)
            self._emit("conversation.item.added", previous_item_id=previous, item=self._item.shown())
        self._item.parts.append(self._part)
        self._emit_part("response.content_part.added", part=self._shown_part())

    def _finish(self, status: str, details: Event | None) -> None:
        if self.over:
            return
        self.over = True
        self._item.status = "completed" if status == "completed" else "incomplete"
        if self._speech is not None:
            self._speech.stop()
        if self._begun:
            self._finish_item()
        self._emit("response.done", response=self._shown(status, details))
        self.under_way.set()
        self._on_over(self)

    def _finish_item(self) -> None:
        if self._settings.spoken:
            self._emit_part("response.output_audio.done")
            self._emit_part("response.output_audio_transcript.done", transcript=self._progress.text)
        else:
            self._emit_part("response.output_text.done", text=self._progress.text)
        self._emit_part("response.content_part.done", part=self._shown_part())
        shown = self._item.shown()
        self._emit("response.output_item.done", response_id=self.id, output_index=0, item=shown)
        if self._options.kept:
            self._emit(
                "conversation.item.done", previous_item_id=self._conversation.before(self._item), item=shown
            )

    def _shown_part(self) -> Event:
        """The content part as events of a response show it; in an item its type has another name."""
        if self._settings.spoken:
            return {"type": "audio", "transcript": self._progress.text}
        return {"type": "text", "text": self._progress.text}

    def _shown(self, status: str, details: Event | None = None) -> Event:
        settings, output = self._settings, self._settings.audio.output
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [self._item.shown()] if self._begun else [],
            "conversation_id": self._conversation.id if self._options.kept else None,
            "output_modalities": settings.output_modalities,
            "max_output_tokens": settings.max_output_tokens,
            "audio": {"output": {"format": output.format.model_dump(), "voice": output.voice or FIRST_VOICE}},
            "usage": None if status == "in_progress" else self._progress.usage.shown(),
            "metadata": self._options.metadata,
        }

    def _emit(self, kind: str, **fields: Any) -> None:
        self._means.emit({"type": kind, **fields})

    def _emit_part(self, kind: str, **fields: Any) -> None:
        """An event about the one part of the one item."""
        self._emit(
            kind, response_id=self.id, item_id=self._item.id, output_index=0, content_index=0, **fields
        )


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _text(raw: bytes) -> str:
    """One BYTES element after its length."""
    return raw[4:].decode("utf-8", "replace")
