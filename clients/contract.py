"""The tensors and models that a client meets: their names, dtypes and shapes.

The client installs alone, so it cannot import `af3.contract`, where the whole graph is described.
tests/contract/test_client_contract.py holds every line of this file against it.
"""

from __future__ import annotations

from typing import NamedTuple


class Tensor(NamedTuple):
    """`dtype` is Triton's name without `TYPE_` (`STRING` holds bytes); -1 in `dims` is any length."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


AUDIO_FLAMINGO = "audio_flamingo"
AUDIO_FLAMINGO_SPEECH = "audio_flamingo_speech"
TTS = "tts"

AUDIO = Tensor("audio", "STRING", (-1,), optional=True)
PROMPT = Tensor("prompt", "STRING", (1,), optional=True)
MESSAGES = Tensor("messages", "STRING", (1,), optional=True)

TEXT = Tensor("text", "STRING", (1,))
THINKING = Tensor("thinking", "STRING", (1,), optional=True)
FINISH_REASON = Tensor("finish_reason", "STRING", (1,))
TOKEN_COUNT = Tensor("token_count", "INT32", (1,))
INDEX = Tensor("index", "INT32", (1,))
TOKEN_IDS = Tensor("token_ids", "INT32", (-1,))
PROMPT_TOKENS = Tensor("prompt_tokens", "INT32", (1,), optional=True)
AUDIO_TOKENS = Tensor("audio_tokens", "INT32", (1,), optional=True)

SPEECH = Tensor("speech", "INT16", (-1,))
SAMPLE_RATE = Tensor("sample_rate", "INT32", (1,))
SPEECH_TEXT = Tensor("speech_text", "STRING", (1,))
SPEECH_ERROR = Tensor("speech_error", "STRING", (1,))

STOP = Tensor("stop", "BOOL", (1,), optional=True)
TTS_INPUTS = (
    TEXT,
    THINKING,
    FINISH_REASON,
    TOKEN_COUNT,
    INDEX,
    TOKEN_IDS,
    PROMPT_TOKENS,
    AUDIO_TOKENS,
    STOP,
)
