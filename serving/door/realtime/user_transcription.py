"""Transcribes what the user said, by asking the model."""

from __future__ import annotations

import re

from af3 import contract
from af3.errors import RequestError
from serving.door.collect import collect
from serving.door.realtime.conversation_items import Asked, Item
from serving.door.realtime.realtime_answer import Means
from serving.door.realtime.realtime_events import error_body
from serving.door.realtime.realtime_question import ask
from serving.door.triton_errors import internal_error

PROMPT = "Transcribe the input speech."
# The model answers in a sentence: The spoken content of the audio is "stop".
SENTENCE = re.compile(r"""^The spoken content of the audio is ["'](.*)["']\.?$""", re.DOTALL)


async def transcribe(means: Means, item: Item) -> None:
    """Emit the transcript of an item of the user, or why there is none."""
    about = {"item_id": item.id, "content_index": 0}
    kind = "conversation.item.input_audio_transcription"
    clips = item.clips[:1]
    try:
        transcript = await _transcript(means, Asked([], clips), item.id)
    except RequestError as error:
        means.emit({"type": f"{kind}.failed", **about, "error": error_body(error)})
    except Exception as error:
        means.emit({"type": f"{kind}.failed", **about, "error": error_body(internal_error(error))})
    else:
        for part in item.parts:
            if part.kind == "input_audio":
                part.text = transcript
        usage = {"type": "duration", "seconds": round(sum(clip.seconds for clip in clips), 3)}
        means.emit({"type": f"{kind}.delta", **about, "delta": transcript})
        means.emit({"type": f"{kind}.completed", **about, "transcript": transcript, "usage": usage})


async def _transcript(means: Means, sound: Asked, item_id: str) -> str:
    content = [*({"type": "audio"} for _ in sound.clips), {"type": "text", "text": PROMPT}]
    question = Asked([{"role": "user", "content": content}], sound.clips)
    model = contract.AUDIO_FLAMINGO.name
    async with await ask(
        means.relay, model, question, {"max_tokens": means.limits.answer_tokens}, item_id
    ) as answer:
        whole = await collect(answer)
    for output, raw in zip(whole.outputs, whole.raw_output_contents, strict=False):
        if output.name == contract.TEXT.name:
            return transcript_of(raw[4:].decode("utf-8", "replace"))
    return ""


def transcript_of(answer: str) -> str:
    """The words alone."""
    found = SENTENCE.match(answer.strip())
    return found[1] if found else answer.strip()
