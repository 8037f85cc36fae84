"""Transformers on the same checkpoint, fp32 and greedy: what every answer is compared with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AudioFlamingo3ForConditionalGeneration,
    AutoConfig,
    AutoProcessor,
    MusicFlamingoForConditionalGeneration,
)

from build_engines.encoder.verify_encoder import audio_features

CLASSES = {
    "audioflamingo3": AudioFlamingo3ForConditionalGeneration,
    "musicflamingo": MusicFlamingoForConditionalGeneration,
}


class Oracle:
    """`generate()` as the documentation of Transformers shows it."""

    def __init__(self, checkpoint: Path):
        known = CLASSES[AutoConfig.from_pretrained(checkpoint).model_type]
        self.model = known.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint)

    @staticmethod
    def user(text: str, path: Path | None = None) -> dict[str, Any]:
        audio = [] if path is None else [{"type": "audio", "path": str(path)}]
        return {"role": "user", "content": [*audio, {"type": "text", "text": text}]}

    @staticmethod
    def assistant(text: str) -> dict[str, Any]:
        return {"role": "assistant", "content": [{"type": "text", "text": text}]}

    @staticmethod
    def system(text: str) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": "text", "text": text}]}

    def generate(self, conversation: Sequence[dict[str, Any]], max_new_tokens: int) -> list[int]:
        """Ids of the answer without the end token."""
        inputs = self.processor.apply_chat_template(
            list(conversation), tokenize=True, add_generation_prompt=True, return_dict=True
        )
        return self.answer(inputs, max_new_tokens)

    def answer(self, inputs: Mapping[str, torch.Tensor], max_new_tokens: int) -> list[int]:
        """The same for what the processor made of a prompt."""
        prompt = inputs["input_ids"].shape[1]
        return self._without_end(self._run(max_new_tokens, **inputs)[0, prompt:])

    def generate_from_pieces(self, pieces: Sequence[str | np.ndarray], max_new_tokens: int) -> list[int]:
        """The same for texts and clips (mono 16 kHz samples) in any order, by `inputs_embeds`."""
        embeddings = torch.cat(
            [
                self._text_embeddings(piece) if isinstance(piece, str) else self.audio_embeddings(piece)
                for piece in pieces
            ]
        )
        return self._without_end(self._run(max_new_tokens, inputs_embeds=embeddings[None])[0])

    def audio_embeddings(self, clip: np.ndarray) -> torch.Tensor:
        """Valid rows [P, H] of the audio tower and adaptor, for the windows of one clip padded to 30 s each."""
        windows = [clip[start : start + 480_000] for start in range(0, len(clip), 480_000)]
        features = self.processor.feature_extractor(
            windows,
            sampling_rate=16_000,
            return_tensors="pt",
            return_attention_mask=True,
            padding="max_length",
        )
        with torch.inference_mode():
            return audio_features(self.model.model, features["input_features"], features["attention_mask"])

    def text(self, ids: Sequence[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _text_embeddings(self, text: str) -> torch.Tensor:
        ids = self.processor.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
        with torch.inference_mode():
            return self.model.get_input_embeddings()(ids)

    def _run(self, max_new_tokens: int, **inputs: Any) -> torch.Tensor:
        with torch.inference_mode():
            return self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)

    def _without_end(self, ids: torch.Tensor) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends)
        return [token for token in ids.tolist() if token not in ends]
