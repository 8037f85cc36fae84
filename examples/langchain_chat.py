"""Ask about a clip through LangChain: pip install langchain-openai

usage: langchain_chat.py [CLIP]; the server's address from OPENAI_BASE_URL
"""

import base64
import os
import sys
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

SAMPLES = Path(__file__).parents[1] / "checkpoints" / "samples"
clip = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES / "siren.wav"
model = ChatOpenAI(
    model="audio_flamingo",
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    max_completion_tokens=64,
)
question = HumanMessage(
    [
        {
            "type": "input_audio",
            "input_audio": {"data": base64.b64encode(clip.read_bytes()).decode(), "format": "wav"},
        },
        {"type": "text", "text": "What do you hear?"},
    ]
)
answer = model.invoke([question])
print(answer.content)
print(answer.usage_metadata, file=sys.stderr)
for chunk in model.stream([question, answer, HumanMessage("Is it loud?")]):
    print(chunk.content, end="", flush=True)
print()
