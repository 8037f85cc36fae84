"""Transcribe a clip, speak a text, get a spoken answer and ask on, with the `openai` package: pip install openai

usage: openai_voice.py [FOLDER FOR THE FILES]; the server's address from OPENAI_BASE_URL
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

SAMPLES = Path(__file__).parents[1] / "checkpoints" / "samples"
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)

heard = client.audio.transcriptions.create(
    model="audio_flamingo", file=SAMPLES / "digits.wav", response_format="verbose_json"
)
print(f"{heard.duration:.2f} s: {heard.text}")

# WAV and PCM begin while the rest is still being made; MP3, Opus, FLAC and AAC come whole.
with client.audio.speech.with_streaming_response.create(
    model="speech", voice="alloy", input="One, two, three.", response_format="wav"
) as speech:
    speech.stream_to_file(folder / "speech.wav")

question = {
    "role": "user",
    "content": [
        {
            "type": "input_audio",
            "input_audio": {
                "data": base64.b64encode((SAMPLES / "siren.wav").read_bytes()).decode(),
                "format": "wav",
            },
        },
        {"type": "text", "text": "What do you hear?"},
    ],
}
answer = client.chat.completions.create(
    model="audio_flamingo",
    messages=[question],
    modalities=["text", "audio"],
    audio={"voice": "alloy", "format": "mp3"},
    max_completion_tokens=64,
)
spoken = answer.choices[0].message.audio
(folder / "answer.mp3").write_bytes(base64.b64decode(spoken.data))
print(spoken.transcript)

# The server keeps what it said for an hour: the next turn refers to it by its id.
more = client.chat.completions.create(
    model="audio_flamingo",
    messages=[
        question,
        {"role": "assistant", "audio": {"id": spoken.id}},
        {"role": "user", "content": "Is it loud?"},
    ],
    max_completion_tokens=64,
)
print(more.choices[0].message.content)
