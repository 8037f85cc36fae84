"""Turns a client's request into the inputs of the encoder and the LLM; all validation happens here."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from af3 import contract
from af3.adapters import check_adapter
from af3.encoder.windows import clip_windows
from af3.errors import invalid, refuse_unless_one
from af3.inputs import chat_messages
from af3.inputs.base64_text import file_bytes
from af3.inputs.clip_decoder import ClipDecoder
from af3.inputs.prompt import Prompt, PromptBuilder
from af3.manifest import TOKENIZER_FOLDER, Manifest, ModelFacts
from af3.parameters import SEED_LIMIT, Parameters, parse_parameters
from af3.speech.built_voice import available_voices
from af3.speech.voice_names import resolve
from af3.tokenizer import Tokenizer

log = logging.getLogger("af3")


class Preprocessor:
    """Prepares requests for one set of engines."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer, voices: Sequence[str]):
        self._model = manifest.model
        self._limits = manifest.limits
        self._voices = voices
        self._adapters = manifest.adapters
        self._prompts = PromptBuilder(tokenizer, manifest.model, manifest.limits, manifest.checkpoint.sha256)
        self._decoder = ClipDecoder()

    @classmethod
    def load(cls, engine_dir: Path) -> Preprocessor:
        """Load from a folder made by `make engines`."""
        tokenizer = Tokenizer.load(engine_dir / TOKENIZER_FOLDER)
        preprocessor = cls(Manifest.read(engine_dir), tokenizer, available_voices(engine_dir))
        preprocessor._decoder.start()
        return preprocessor

    def close(self) -> None:
        """End the decoder process."""
        self._decoder.close()

    def prepare(
        self,
        request_id: str,
        given_parameters: dict[str, Any],
        files: Sequence[bytes],
        prompt: str | None,
        messages: str | None,
    ) -> dict[str, np.ndarray]:
        """Build the tensors of the next steps by name (`af3.contract`), each with a leading 1.

        Raises RequestError for anything that must not reach an engine.
        """
        refuse_bad_id(request_id)
        parameters = parse_parameters(given_parameters, self._limits.max_output_tokens)
        if parameters.voice is not None:
            resolve(parameters.voice, self._voices)
        if parameters.adapter is not None:
            check_adapter(parameters.adapter, self._adapters)
        conversation = _conversation(prompt, messages, len(files))
        clips = self._clips(files, parameters.read_cut_short)
        built = self._prompts.build(conversation, clips, parameters.max_tokens, parameters.think)
        return _audio_tensors(clips, self._model.rotates_by_time) | _llm_tensors(
            built, parameters, self._model
        )

    def _clips(self, files: Sequence[bytes], read_cut_short: bool) -> list[np.ndarray]:
        """Decode each file to mono 16 kHz samples; stops at the first clip that exceeds the limit."""
        if len(files) > contract.MAX_CLIPS:
            raise invalid(f"audio: {len(files)} clips, at most {contract.MAX_CLIPS} are heard in one request")
        clips: list[np.ndarray] = []
        for place, file in enumerate(files):
            name = f"audio[{place}]"
            clip = self._decoder.decode(
                file_bytes(file, name), name, self._limits.max_clip_seconds, read_cut_short
            )
            if clip.note is not None:
                log.info("%s was read, but may be cut short: %s", name, clip.note)
            clips.append(clip.pcm)
            self._prompts.refuse_too_much_audio(clips)
        return clips


def refuse_bad_id(request_id: str) -> None:
    """Raise RequestError when a request has no id or one that is too long."""
    if not request_id:
        raise invalid(
            "the request has no id; give each request a unique, non-empty request id (a UUID): it is how its"
            " answer is put together and how it is cancelled"
        )
    if len(request_id) > contract.MAX_REQUEST_ID:
        raise invalid(
            f"the request id has {len(request_id)} characters, at most {contract.MAX_REQUEST_ID} are kept"
        )


def _conversation(prompt: str | None, messages: str | None, clips: int) -> list[chat_messages.Message]:
    refuse_unless_one(prompt is not None, messages is not None)
    if messages is not None:
        return chat_messages.from_json(messages, clips)
    assert prompt is not None
    if not prompt and not clips:
        raise invalid("prompt: empty and without audio; send a question, a clip, or both")
    return chat_messages.from_prompt(prompt, clips)


def _audio_tensors(clips: Sequence[np.ndarray], placed: bool) -> dict[str, np.ndarray]:
    """Build the windows of all clips, zero-padded to the longest; none for a text-only request.

    placed: send the windows' indices; without them, equal windows are encoded only once.
    """
    windows = [window for clip in clips for window in clip_windows(clip)]
    lengths = np.array([[len(window.samples) for window in windows]], np.int32)
    pcm = np.zeros((1, len(windows), lengths.max(initial=0)), np.float32)
    for row, window in zip(pcm[0], windows, strict=True):
        row[: len(window.samples)] = window.samples
    index = np.array([[window.place if placed else 0 for window in windows]], np.int32)
    return {
        contract.PCM.name: pcm,
        contract.PCM_LENGTHS.name: lengths,
        contract.WINDOW_INDEX.name: index,
    }


def _llm_tensors(prompt: Prompt, parameters: Parameters, model: ModelFacts) -> dict[str, np.ndarray]:
    end_id, *other_ends = model.stop_token_ids
    seed = secrets.randbelow(SEED_LIMIT) if parameters.seed is None else parameters.seed
    tensors = {
        contract.INPUT_IDS.name: prompt.input_ids,
        contract.INPUT_LENGTHS.name: np.array([len(prompt.input_ids)], np.int32),
        contract.PROMPT_TABLE_EXTRA_IDS.name: prompt.extra_ids,
        contract.REQUEST_OUTPUT_LEN.name: np.array([parameters.max_tokens], np.int32),
        contract.END_ID.name: np.array([end_id], np.int32),
        contract.PAD_ID.name: np.array([model.pad_token_id], np.int32),
        contract.STREAMING.name: np.array([True]),
        contract.TEMPERATURE.name: np.array([parameters.temperature or 1.0], np.float32),
        # TensorRT-LLM: top_k 1 is greedy; top_k 0 with top_p 1 samples from the whole vocabulary.
        contract.RUNTIME_TOP_K.name: np.array([1 if parameters.greedy else parameters.top_k], np.int32),
        contract.RUNTIME_TOP_P.name: np.array([parameters.top_p], np.float32),
        contract.SEED.name: np.array([seed], np.uint64),
    }
    if parameters.repetition_penalty != 1.0:
        # Sent only when set: one request with it makes TensorRT-LLM run its penalty kernel over the whole batch.
        tensors[contract.REPETITION_PENALTY.name] = np.array([parameters.repetition_penalty], np.float32)
    if other_ends:
        # Row 0: the ids of all words, concatenated. Row 1: the end offset of each word.
        tensors[contract.STOP_WORDS_LIST.name] = np.array(
            [other_ends, range(1, len(other_ends) + 1)], np.int32
        )
    return {name: tensor[None] for name, tensor in tensors.items()}
