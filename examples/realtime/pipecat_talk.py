"""A pipecat pipeline before this server: ask by voice, hear the answer.

pip install pipecat-ai websockets
usage: python pipecat_talk.py [QUESTION.wav]; the server's address from OPENAI_BASE_URL
"""

import asyncio
import os
import sys
import wave
from pathlib import Path

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

QUESTION = Path(__file__).parents[2] / "checkpoints" / "samples" / "question.wav"
HZ = 24_000  # of the API
BLOCK_S = 0.02
PAUSE_S = 1.5


class Listener(FrameProcessor):
    """What a loudspeaker would play."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.seconds = 0.0
        self.over = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self.text += frame.text
        elif isinstance(frame, TTSAudioRawFrame):
            self.seconds += len(frame.audio) / 2 / frame.sample_rate
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.over.set()
        await self.push_frame(frame, direction)


def question(path: Path) -> bytes:
    """Mono, 16 bits, at HZ: of each moment the nearest sample."""
    with wave.open(str(path), "rb") as file:
        hz, sound = file.getframerate(), memoryview(file.readframes(file.getnframes())).cast("h")
    count = len(sound) * HZ // hz
    return b"".join(sound[place * hz // HZ].to_bytes(2, "little", signed=True) for place in range(count))


async def main(path: Path) -> None:
    base = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1").replace("http", "ws", 1)
    service = OpenAIRealtimeLLMService(
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        base_url=f"{base}/realtime",
        settings=OpenAIRealtimeLLMService.Settings(model="audio_flamingo_speech"),
    )
    listener = Listener()
    context = LLMContextAggregatorPair(LLMContext([]))
    pipeline = Pipeline([context.user(), service, listener, context.assistant()])
    task = PipelineTask(pipeline, params=PipelineParams(audio_in_sample_rate=HZ, audio_out_sample_rate=HZ))
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    sound = question(path) + bytes(2 * round(PAUSE_S * HZ))
    block = 2 * round(BLOCK_S * HZ)
    await asyncio.sleep(1)  # the session is set up meanwhile
    for start in range(0, len(sound), block):
        await task.queue_frame(InputAudioRawFrame(sound[start : start + block], HZ, 1))
        await asyncio.sleep(BLOCK_S)
    await asyncio.wait_for(listener.over.wait(), 60)
    print(f"{listener.text.strip()}\n{listener.seconds:.1f} s of speech")
    await task.cancel()
    await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else QUESTION))
