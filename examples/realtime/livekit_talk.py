"""LiveKit's Realtime model before this server: ask by voice, hear the answer. No LiveKit server is needed for that.

pip install livekit-agents livekit-plugins-openai
usage: python livekit_talk.py [QUESTION.wav]; the server's address from OPENAI_BASE_URL
"""

import asyncio
import os
import sys
import wave
from pathlib import Path

import aiohttp
from livekit import rtc
from livekit.plugins.openai import realtime

QUESTION = Path(__file__).parents[2] / "checkpoints" / "samples" / "question.wav"
BLOCK_S = 0.02
PAUSE_S = 1.5


async def main(question: Path) -> None:
    with wave.open(str(question), "rb") as file:  # mono, 16 bits
        hz, sound = file.getframerate(), file.readframes(file.getnframes())
    async with aiohttp.ClientSession() as http:
        model = realtime.RealtimeModel(
            model="audio_flamingo_speech",
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
            http_session=http,
        )
        session = model.session()
        generations: asyncio.Queue = asyncio.Queue()
        session.on("generation_created", generations.put_nowait)
        session.on("error", lambda error: print("error", error, file=sys.stderr))
        block = 2 * round(BLOCK_S * hz)
        said = sound + bytes(2 * round(PAUSE_S * hz))
        for start in range(0, len(said) - block, block):
            session.push_audio(rtc.AudioFrame(said[start : start + block], hz, 1, block // 2))
        generation = await generations.get()
        async for message in generation.message_stream:
            text, seconds = await asyncio.gather(_text(message), _seconds(message))
            print(f"{text.strip()}\n{seconds:.1f} s of speech")
        await session.aclose()
        await model.aclose()


async def _text(message) -> str:
    return "".join([str(part) async for part in message.text_stream])


async def _seconds(message) -> float:
    return sum([frame.duration async for frame in message.audio_stream])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else QUESTION))
