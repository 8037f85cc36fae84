"""Ask about two clips in a conversation, with the `openai` package: pip install openai

usage: openai_chat.py [FIRST CLIP] [SECOND CLIP]; the server's address from OPENAI_BASE_URL
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

SAMPLES = Path(__file__).parents[1] / "checkpoints" / "samples"
first, second = sys.argv[1:3] if len(sys.argv) > 2 else (SAMPLES / "siren.wav", SAMPLES / "trumpet.flac")
client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)


def question(clip, text):
    """The clip as it is, in any format that the server reads; `format` is not looked at."""
    data = base64.b64encode(Path(clip).read_bytes()).decode()
    return {
        "role": "user",
        "content": [
            {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
            {"type": "text", "text": text},
        ],
    }


messages = [question(first, "What do you hear?")]
answer = client.chat.completions.create(model="audio_flamingo", messages=messages, max_completion_tokens=64)
print(answer.choices[0].message.content)
print(f"({answer.usage.prompt_tokens_details.audio_tokens} tokens of audio)", file=sys.stderr)

messages += [answer.choices[0].message, question(second, "Which instrument is playing?")]
stream = client.chat.completions.create(
    model="audio_flamingo", messages=messages, max_completion_tokens=64, stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
