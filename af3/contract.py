"""Defines every tensor between the steps of the graph: name, dtype, dims, producer and consumer.

Tests check `model_repository/*/configs/*.pbtxt`, the models and the clients against it. Dims are those of one request
without a batch dimension; -1 is any length. On the wire every tensor between `preprocess` and `postprocess` has a
leading 1, TensorRT-LLM's batch dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

# MAX_* are Audio Flamingo 3's limits. The manifest has each checkpoint's own; Audio Flamingo Next's LONGEST_* are the
# largest of the family.
LONGEST_CLIP_SECONDS = 1800
LONGEST_ANSWER_TOKENS = 4096
DEFAULT_ANSWER_TOKENS = 256
MAX_NEW_TOKENS = 1024  # Audio Flamingo 3 model card: longest answer
MAX_TEXT_TOKENS = 16_000  # Audio Flamingo 3 model card: longest text
MAX_CLIP_SECONDS = 600  # 20 windows of 30 s
MAX_CLIPS = 256  # per request, as many as messages
MAX_REQUEST_ID = 128
MAX_SPOKEN_CHARACTERS = 4096  # longest text of a speech request
MAX_TEXT_BYTES = 16 * MAX_TEXT_TOKENS  # of a prompt or of messages, in any language


@dataclass(frozen=True)
class Tensor:
    """One tensor. `dtype` is Triton's name without `TYPE_` (`STRING` holds bytes)."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


# What a client sends.
AUDIO = Tensor("audio", "STRING", (-1,), optional=True)
PROMPT = Tensor("prompt", "STRING", (1,), optional=True)
MESSAGES = Tensor("messages", "STRING", (1,), optional=True)

# preprocess → audio_encoder. A text-only request has no windows.
PCM = Tensor("pcm", "FP32", (-1, -1))
PCM_LENGTHS = Tensor("pcm_lengths", "INT32", (-1,))
# Index of each window in its clip; always 0 for models without RoTE.
WINDOW_INDEX = Tensor("window_index", "INT32", (-1,))

# audio_encoder → llm. Its dtype is the engine's: FP32 on a CPU, BF16 on a GPU.
PROMPT_EMBEDDING_TABLE = Tensor("prompt_embedding_table", "FP32", (-1, -1), optional=True)

# preprocess → llm: names, dtypes and meaning are those of the TensorRT-LLM backend.
INPUT_IDS = Tensor("input_ids", "INT32", (-1,))
INPUT_LENGTHS = Tensor("input_lengths", "INT32", (1,))
REQUEST_OUTPUT_LEN = Tensor("request_output_len", "INT32", (1,))
PROMPT_TABLE_EXTRA_IDS = Tensor("prompt_table_extra_ids", "UINT64", (-1,), optional=True)
END_ID = Tensor("end_id", "INT32", (1,), optional=True)
PAD_ID = Tensor("pad_id", "INT32", (1,), optional=True)
STOP_WORDS_LIST = Tensor("stop_words_list", "INT32", (2, -1), optional=True)
STREAMING = Tensor("streaming", "BOOL", (1,), optional=True)
TEMPERATURE = Tensor("temperature", "FP32", (1,), optional=True)
RUNTIME_TOP_K = Tensor("runtime_top_k", "INT32", (1,), optional=True)
RUNTIME_TOP_P = Tensor("runtime_top_p", "FP32", (1,), optional=True)
REPETITION_PENALTY = Tensor("repetition_penalty", "FP32", (1,), optional=True)
SEED = Tensor("seed", "UINT64", (1,), optional=True)

# postprocess → llm, and door → audio_encoder, llm and tts, in a separate request with the same request id.
STOP = Tensor("stop", "BOOL", (1,), optional=True)

# llm → postprocess: only new tokens, never the end token.
OUTPUT_IDS = Tensor("output_ids", "INT32", (-1, -1))
SEQUENCE_LENGTH = Tensor("sequence_length", "INT32", (-1,))

# What a client receives: at most one response per response of the LLM, with one token or several.
TEXT = Tensor("text", "STRING", (1,))
# A model's reasoning, separate from the text; only in responses that add to it.
THINKING = Tensor("thinking", "STRING", (1,), optional=True)
FINISH_REASON = Tensor("finish_reason", "STRING", (1,))
TOKEN_COUNT = Tensor("token_count", "INT32", (1,))
INDEX = Tensor("index", "INT32", (1,))
TOKEN_IDS = Tensor("token_ids", "INT32", (-1,))
# In the last response: tokens of the whole prompt, and those of the clips (25 per second of audio).
PROMPT_TOKENS = Tensor("prompt_tokens", "INT32", (1,), optional=True)
AUDIO_TOKENS = Tensor("audio_tokens", "INT32", (1,), optional=True)

# What a client of the speech ensemble receives, in separate responses between those with text.
SPEECH = Tensor("speech", "INT16", (-1,))
SAMPLE_RATE = Tensor("sample_rate", "INT32", (1,))
# The part of the answer that a segment speaks; in the segment's first block.
SPEECH_TEXT = Tensor("speech_text", "STRING", (1,))
# Sent once when the voice fails: the text continues without speech.
SPEECH_ERROR = Tensor("speech_error", "STRING", (1,))


@dataclass(frozen=True)
class Step:
    """One model of the graph. batched: Triton adds a batch dimension to its dims (max_batch_size > 0)."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    decoupled: bool = False


LLM_INPUTS_FROM_PREPROCESS = (
    INPUT_IDS,
    INPUT_LENGTHS,
    REQUEST_OUTPUT_LEN,
    PROMPT_TABLE_EXTRA_IDS,
    END_ID,
    PAD_ID,
    STOP_WORDS_LIST,
    STREAMING,
    TEMPERATURE,
    RUNTIME_TOP_K,
    RUNTIME_TOP_P,
    REPETITION_PENALTY,
    SEED,
)

PREPROCESS = Step(
    "preprocess",
    inputs=(AUDIO, PROMPT, MESSAGES),
    outputs=(PCM, PCM_LENGTHS, WINDOW_INDEX, *LLM_INPUTS_FROM_PREPROCESS),
    batched=False,
)
AUDIO_ENCODER = Step(
    "audio_encoder",
    inputs=(PCM, PCM_LENGTHS, WINDOW_INDEX, STOP),
    outputs=(PROMPT_EMBEDDING_TABLE,),
    batched=True,
)
LLM = Step(
    "llm",
    inputs=(*LLM_INPUTS_FROM_PREPROCESS, PROMPT_EMBEDDING_TABLE, STOP),
    outputs=(OUTPUT_IDS, SEQUENCE_LENGTH),
    batched=True,
    decoupled=True,
)
POSTPROCESS = Step(
    "postprocess",
    inputs=(OUTPUT_IDS, SEQUENCE_LENGTH),
    outputs=(TEXT, THINKING, FINISH_REASON, TOKEN_COUNT, INDEX, TOKEN_IDS, PROMPT_TOKENS, AUDIO_TOKENS),
    batched=False,
    decoupled=True,
)
TTS = Step(
    "tts",
    # A text alone comes from a client: all of it is spoken, and no text is returned.
    inputs=(TEXT, *(replace(tensor, optional=True) for tensor in POSTPROCESS.outputs[1:]), STOP),
    outputs=(*POSTPROCESS.outputs, SPEECH, SAMPLE_RATE, SPEECH_TEXT, SPEECH_ERROR),
    batched=False,
    decoupled=True,
)


@dataclass(frozen=True)
class Ensemble:
    """A path through the steps; every tensor keeps its name from step to step."""

    name: str
    steps: tuple[Step, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...] = field(default=PREPROCESS.inputs)


AUDIO_FLAMINGO = Ensemble(
    "audio_flamingo", steps=(PREPROCESS, AUDIO_ENCODER, LLM, POSTPROCESS), outputs=POSTPROCESS.outputs
)
AUDIO_FLAMINGO_SPEECH = Ensemble(
    "audio_flamingo_speech", steps=(*AUDIO_FLAMINGO.steps, TTS), outputs=TTS.outputs
)
# Speaks a text.
SPEECH_ALONE = Ensemble(
    "speech", steps=(TTS,), outputs=(SPEECH, SAMPLE_RATE, SPEECH_TEXT, SPEECH_ERROR), inputs=(TEXT,)
)
