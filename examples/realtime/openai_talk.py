"""A conversation with the `openai` package: ask by voice, hear the answer. pip install 'openai[realtime]'

usage: python openai_talk.py [QUESTION.wav] [--out reply.wav]; the server's address from OPENAI_BASE_URL
"""

import argparse
import asyncio
import base64
import os
import wave
from pathlib import Path

from openai import AsyncOpenAI

QUESTION = Path(__file__).parents[2] / "checkpoints" / "samples" / "question.wav"
ANSWER_HZ = 24_000
BLOCK_S = 0.1


async def main(question: Path, out: Path | None) -> None:
    with wave.open(str(question), "rb") as file:  # mono, 16 bits
        hz, sound = file.getframerate(), file.readframes(file.getnframes())
    client = AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    speech = bytearray()
    async with client.realtime.connect(model="audio_flamingo_speech") as connection:
        pcm = {"type": "audio/pcm", "rate": hz}
        session = {"type": "realtime", "audio": {"input": {"format": pcm}}}
        await connection.session.update(session=session)
        block = 2 * round(BLOCK_S * hz)
        for start in range(0, len(sound), block):
            data = base64.b64encode(sound[start : start + block]).decode()
            await connection.input_audio_buffer.append(audio=data)
        # The pause that ends the turn: a microphone goes on anyway.
        await connection.input_audio_buffer.append(audio=base64.b64encode(bytes(2 * hz)).decode())
        async for event in connection:
            if event.type == "response.output_audio_transcript.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "response.output_audio.delta":
                speech += base64.b64decode(event.delta)
            elif event.type == "error":
                raise SystemExit(event.error.message)
            elif event.type == "response.done":
                break
    print()
    if out is not None:
        with wave.open(str(out), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(ANSWER_HZ)
            file.writeframes(bytes(speech))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", type=Path, default=QUESTION)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.question, arguments.out))
