"""What Transformers' `generate()` answers, and how many answers of a server are the same text.

Transformers runs in a process of its own: `python -m perf.peers.exact CHECKPOINT FOLDER` prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from perf import traffic
from perf.peers.asking import TIMEOUT_S, RefusedError, ask, question
from perf.peers.servers import Server

LENGTHS_S = (2.0, 5.0, 12.0, 29.0, 45.0)
QUESTIONS = ("What do you hear?", "Transcribe the input speech.", "How many beeps do you hear?")
TOKENS = 64
AT_ONCE = 8


@dataclass(frozen=True)
class Asked:
    """A question about a file. name: with the suffix that says its kind."""

    name: str
    file: bytes
    text: str


@dataclass(frozen=True)
class Same:
    """How many answers are the reference's text, of how many; what was refused is not the same."""

    same: int
    asked: int
    refused: int


def questions(count: int) -> list[Asked]:
    """The samples with their own questions, and `count` clips of several lengths."""
    listed = json.loads((traffic.SAMPLES / "samples.json").read_text())
    samples = [
        Asked(entry["file"], (traffic.SAMPLES / entry["file"]).read_bytes(), entry["question"])
        for entry in listed
        if isinstance(entry["file"], str)
    ]
    rows = traffic.rows(LENGTHS_S, count)
    return samples + [
        Asked(
            f"clip{number}.{'flac' if row.audio_s >= traffic.FLAC_FROM_S else 'wav'}",
            row.file,
            QUESTIONS[number % len(QUESTIONS)],
        )
        for number, row in enumerate(rows)
    ]


def reference(checkpoint: Path, asked: Sequence[Asked]) -> list[str]:
    """Transformers' answers, fp32, one by one."""
    with tempfile.TemporaryDirectory(prefix="af3-peers-exact-") as folder:
        for one in asked:
            (Path(folder) / one.name).write_bytes(one.file)
        listed = [(one.name, one.text) for one in asked]
        (Path(folder) / "questions.json").write_text(json.dumps(listed))
        done = subprocess.run(
            [sys.executable, "-m", "perf.peers.exact", str(checkpoint), folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    texts: list[str] = json.loads(done.stdout.splitlines()[-1])
    return texts


async def compare(server: Server, asked: Sequence[Asked], expected: Sequence[str]) -> Same:
    """Ask a server that ends its answers itself, eight questions at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(client: httpx2.AsyncClient, what: Asked) -> str | None:
        kind = what.name.rpartition(".")[2]
        body = question(what.file, kind, what.text, server.model, TOKENS, {})
        async with limit:
            try:
                return (await ask(client, server.url, body)).text
            except (RefusedError, httpx2.HTTPError):
                return None

    async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        got = await asyncio.gather(*(one(client, what) for what in asked))
    same = sum(
        text is not None and text.strip() == wanted.strip()
        for text, wanted in zip(got, expected, strict=True)
    )
    return Same(same, len(asked), got.count(None))


def _answers(checkpoint: str, folder: Path) -> list[str]:
    import torch
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    texts = []
    for name, text in json.loads((folder / "questions.json").read_text()):
        content: list[dict[str, Any]] = [{"type": "audio", "path": str(folder / name)}]
        if text:
            content.append({"type": "text", "text": text})
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
        )
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        prompt = inputs["input_ids"].shape[1]
        texts.append(processor.batch_decode(ids[:, prompt:], skip_special_tokens=True)[0])
    return texts


if __name__ == "__main__":
    print(json.dumps(_answers(sys.argv[1], Path(sys.argv[2]))))
