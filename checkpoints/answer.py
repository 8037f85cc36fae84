"""Transformers' own greedy answers, fp32, to the questions of an evaluation folder.

Conversations with at most one clip go through AutoProcessor and generate() as anyone would call them. Several
clips are beyond Transformers' processor: their embeddings are put in place here, and generate() does the rest.
"""

from __future__ import annotations

import json
from pathlib import Path

import soundfile
import torch
from tqdm import tqdm
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

from checkpoints import features
from checkpoints.dialogs import SYSTEM
from checkpoints.features import SAMPLE_RATE


class Listener:
    """A checkpoint, loaded as Transformers loads it."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = AudioFlamingo3ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        self.model.eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint)

    @torch.inference_mode()
    def answer(self, messages: list[dict], audio: list[Path]) -> str:
        if len(audio) > 1:
            ids = self._several_clips(messages, audio)
        else:
            ids = self._at_most_one_clip(messages, audio)
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _at_most_one_clip(self, messages: list[dict], audio: list[Path]) -> torch.Tensor:
        filled = [
            message
            | {
                "content": [
                    part | {"path": str(audio[0])} if part["type"] == "audio" else part
                    for part in message["content"]
                ]
            }
            for message in messages
        ]
        inputs = self.processor.apply_chat_template(
            filled, tokenize=True, add_generation_prompt=True, return_dict=True
        )
        return self.model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]

    def _several_clips(self, messages: list[dict], audio: list[Path]) -> torch.Tensor:
        clips = iter(audio)
        pieces = [self._text(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n")]
        for message in messages:
            pieces.append(self._text(f"<|im_start|>{message['role']}\n"))
            parts = message["content"]
            if sum(part["type"] == "audio" for part in parts) == 1:
                parts = sorted(parts, key=lambda part: part["type"] == "text")
            for part in parts:
                pieces.append(
                    self._text(part["text"]) if part["type"] == "text" else self._audio(next(clips))
                )
            pieces.append(self._text("<|im_end|>\n"))
        pieces.append(self._text("<|im_start|>assistant\n"))
        return self.model.generate(inputs_embeds=torch.cat(pieces)[None])[0]

    def _text(self, text: str) -> torch.Tensor:
        ids = self.processor.tokenizer(text, return_tensors="pt")["input_ids"][0]
        return self.model.get_input_embeddings()(ids.long())

    def _audio(self, path: Path) -> torch.Tensor:
        pcm, _ = soundfile.read(path, dtype="float32")
        inputs = self.processor.feature_extractor(
            features.split_windows(pcm),
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return self.model.get_audio_features(inputs["input_features"], inputs["attention_mask"]).pooler_output


def answer_all(checkpoint: Path, folder: Path, answers: Path) -> None:
    """Answer questions.jsonl of the folder into `answers`, in the form that `clients.batch` writes."""
    listener = Listener(checkpoint)
    with answers.open("w") as out:
        for line in tqdm((folder / "questions.jsonl").read_text().splitlines(), unit="question"):
            question = json.loads(line)
            text = listener.answer(question["messages"], [folder / path for path in question["audio"]])
            out.write(json.dumps({"id": question["id"], "text": text, "error": None}) + "\n")
