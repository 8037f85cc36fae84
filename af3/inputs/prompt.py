"""Builds the LLM's input ids, including audio tokens, from a conversation and its clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from af3.errors import invalid
from af3.inputs import chat_messages
from af3.inputs.audio import SAMPLE_RATE, clip_token_count
from af3.manifest import Limits, ModelFacts
from af3.tokenizer import Tokenizer

EXTRA_ID_BITS = 63


@dataclass(frozen=True)
class Prompt:
    """The LLM's input.

    input_ids: int32 [S]; an audio token is `vocab_size + k`, k counting over all clips of the request.
    extra_ids: uint64 [S]; at audio tokens a hash of the clip's content, elsewhere 0, so that TensorRT-LLM's KV cache
    reuse never confuses two clips.
    """

    input_ids: np.ndarray
    extra_ids: np.ndarray


class PromptBuilder:
    """Builds prompts for one checkpoint, within the limits of one set of engines."""

    def __init__(self, tokenizer: Tokenizer, model: ModelFacts, limits: Limits, engine_identity: str):
        """engine_identity: changes whenever the same clip could get other embeddings."""
        self._tokenizer = tokenizer
        self._model = model
        self._limits = limits
        self._identity = engine_identity.encode()

    def build(
        self,
        messages: Sequence[chat_messages.Message],
        clips: Sequence[np.ndarray],
        max_tokens: int,
        think: bool,
    ) -> Prompt:
        """Build the prompt. clips: mono 16 kHz samples, each [n], in the order of their audio parts.

        Raises RequestError when the text, the audio, or both with `max_tokens` exceed the engines' limits.
        """
        counts = [clip_token_count(clip) for clip in clips]
        self.refuse_too_much_audio(clips)
        hashes = [self._content_hash(clip) for clip in clips]
        ids: list[int] = []
        extra: list[int] = []
        heard = 0
        next_clip = iter(zip(counts, hashes, strict=True))
        for piece in chat_messages.layout(messages, self._model.default_system_prompt, think):
            if isinstance(piece, chat_messages.ClipPlace):
                count, content_hash = next(next_clip)
                first = self._model.vocab_size + heard
                begin, end = self._model.clip_begin_ids, self._model.clip_end_ids
                ids += [*begin, *range(first, first + count), *end]
                extra += [0] * len(begin) + [content_hash] * count + [0] * len(end)
                heard += count
                continue
            ids += (
                self._tokenizer.encode(piece)
                if isinstance(piece, str)
                else [self._tokenizer.token_id(piece.token)]
            )
            extra += [0] * (len(ids) - len(extra))
        self._refuse_too_long(len(ids), len(ids) - heard, max_tokens)
        return Prompt(np.array(ids, np.int32), np.array(extra, np.uint64))

    def _content_hash(self, clip: np.ndarray) -> int:
        digest = hashlib.blake2b(clip.tobytes(), digest_size=8, key=self._identity[:64]).digest()
        return max(1, int.from_bytes(digest, "little") >> (64 - EXTRA_ID_BITS))

    def refuse_too_much_audio(self, clips: Sequence[np.ndarray]) -> None:
        """Raise RequestError when the clips, each [n], have more audio tokens than one request may have."""
        tokens = sum(map(clip_token_count, clips))
        limit = self._limits.max_audio_tokens
        if tokens > limit:
            seconds = sum(map(len, clips)) / SAMPLE_RATE
            raise invalid(
                f"audio: {len(clips)} clip(s) of {seconds:.1f} s in all are {tokens} audio tokens, more than the"
                f" {limit} of one request; send fewer or shorter clips"
            )

    def _refuse_too_long(self, tokens: int, text_tokens: int, max_tokens: int) -> None:
        if text_tokens > self._limits.max_text_tokens:
            raise invalid(
                f"text: {text_tokens} tokens, more than the {self._limits.max_text_tokens} that one request may"
                " hold; shorten the text or drop old turns"
            )
        limit = self._limits.max_sequence_tokens
        if tokens + max_tokens > limit:
            raise invalid(
                f"prompt of {tokens} tokens and max_tokens {max_tokens} exceed the {limit} tokens of one sequence;"
                " shorten the prompt or lower max_tokens"
            )
