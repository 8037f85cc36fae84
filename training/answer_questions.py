"""Answers the questions of an evaluation folder with Transformers' generate(): greedy, fp32.

Transformers' processor takes one clip per conversation and pads it to 30 s. `answer_batch` splices the embeddings of
any number of clips into the prompt, does not pad their windows, and answers many questions at once. The answers are
the same (tests/parity checks it) and come twenty times sooner. `Listener.answer` uses the stock processor.
"""

from __future__ import annotations

import json
from pathlib import Path

import soundfile
import torch
from tqdm import tqdm
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

from training import features
from training.dialogs import SYSTEM
from training.tiny_model import encode, valid

BATCH = 16


class Listener:
    """A checkpoint that Transformers loaded, with its processor."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = AudioFlamingo3ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        self.model.eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint)

    @torch.inference_mode()
    def answer(self, messages: list[dict], audio: list[Path]) -> str:
        """Answer through the stock AutoProcessor and generate(); takes at most one clip."""
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
        return self._text(self.model.generate(**inputs)[0, inputs["input_ids"].shape[1] :])

    @torch.inference_mode()
    def answer_batch(self, conversations: list[tuple[list[dict], list[Path]]]) -> list[str]:
        """Answer (messages, clips) pairs in one batch; each may have any number of clips."""
        rows = [self._embedded(messages, audio) for messages, audio in conversations]
        longest = max(map(len, rows))
        embeds = torch.zeros(len(rows), longest, rows[0].shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            embeds[i, longest - len(row) :] = row
            mask[i, longest - len(row) :] = 1
        return [self._text(ids) for ids in self.model.generate(inputs_embeds=embeds, attention_mask=mask)]

    def _text(self, ids: torch.Tensor) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _embedded(self, messages: list[dict], audio: list[Path]) -> torch.Tensor:
        """Embeddings [S, H] of a conversation up to the answer, rendered as `dialogs.spans` does."""
        clips = iter(audio)
        pieces = [self._token_rows(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n")]
        for message in messages:
            pieces.append(self._token_rows(f"<|im_start|>{message['role']}\n"))
            parts = message["content"]
            if sum(part["type"] == "audio" for part in parts) == 1:
                parts = sorted(parts, key=lambda part: part["type"] == "text")
            for part in parts:
                is_text = part["type"] == "text"
                pieces.append(self._token_rows(part["text"]) if is_text else self._audio_rows(next(clips)))
            pieces.append(self._token_rows("<|im_end|>\n"))
        return torch.cat([*pieces, self._token_rows("<|im_start|>assistant\n")])

    def _token_rows(self, text: str) -> torch.Tensor:
        ids = self.processor.tokenizer(text, return_tensors="pt")["input_ids"][0]
        return self.model.get_input_embeddings()(ids.long())

    def _audio_rows(self, path: Path) -> torch.Tensor:
        pcm, _ = soundfile.read(path, dtype="float32")
        rows = []
        for window in features.split_windows(pcm):
            frames = torch.tensor([features.encoder_frames(len(window))])
            encoded = encode(self.model, features.log_mel(window)[None], frames, torch.zeros_like(frames))
            rows.append(self.model.model.multi_modal_projector(valid(encoded, frames)))
        return torch.cat(rows)


def answer_all(checkpoint: Path, folder: Path, answers: Path) -> None:
    """Answer the folder's questions.jsonl and write `answers` in the format of `clients.commands.batch`."""
    listener = Listener(checkpoint)
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    with answers.open("w") as out, tqdm(total=len(questions), unit="question") as bar:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            asked = [(q["messages"], [folder / path for path in q["audio"]]) for q in batch]
            for question, text in zip(batch, listener.answer_batch(asked), strict=True):
                out.write(json.dumps({"id": question["id"], "text": text, "error": None}) + "\n")
            bar.update(len(batch))
