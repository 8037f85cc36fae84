"""Shows how the training goes: a small set of questions, answered now and then."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from transformers import AudioFlamingo3ForConditionalGeneration, PreTrainedTokenizerBase

from training import dialogs, tiny_model, train_tokenizer, unknown
from training.data import Batch, Phase, batched, encode_dialog
from training.espeak_process import Espeak
from training.mixes import PAIR_KEYS
from training.natural_clips import NaturalClips
from training.scenes import Studio


def check_batches(words: PreTrainedTokenizerBase, phase: Phase, seed: int) -> list[tuple[str, Batch]]:
    """Build a small set of first-turn questions, by kind, that shows how training goes; eSpeak's voices and the natural
    clips in it are never trained on."""
    listens = phase.name != "read"
    espeak = Espeak() if listens else None
    label_ids = None if listens else train_tokenizer.label_ids(words)
    rng = np.random.default_rng([seed, 10**9])
    natural = NaturalClips.read(check=True) if phase.name == "people" else None
    studio = Studio(rng, espeak, held_out=True, natural=natural)
    by_task: dict[str, list] = {}

    def add(task: str, turns: list[dialogs.Turn]) -> None:
        example = encode_dialog(turns, words, None if listens else rng, label_ids)
        by_task.setdefault(task, []).append(example)

    scenes = [*phase.mix.scenes]
    for i in range(20 * len(scenes)):
        scene = scenes[i % len(scenes)]
        add(scene, dialogs.about_one_clip(studio, scene, most_turns=1))
    for i in range(90):
        key = PAIR_KEYS[i % len(PAIR_KEYS)]
        add(key, dialogs.about_two_clips(studio, key, in_turns=False, held_out_wording=True))
    for _ in range(40 if natural else 0):
        add("typed_unknown", [dialogs.Turn((unknown.typed(rng, held_out=True),), unknown.HONEST, "")])
    studio.layout = dialogs.PADDED
    for _ in range(22):
        add("padded", dialogs.about_one_clip(studio, phase.mix.scene(rng), most_turns=1))
    if espeak:
        espeak.close()
    pad_id = words.pad_token_id
    return [(task, b) for task, es in by_task.items() for b in batched(es, pad_id, -(-len(es) // 16))]


@torch.no_grad()
def check(net: AudioFlamingo3ForConditionalGeneration, batches: list[tuple[str, Batch]]) -> dict[str, float]:
    """Share of answers that are right in every token, by scene (teacher-forced; greedy decoding agrees on these)."""
    right, asked = Counter(), Counter()
    for task, batch in batches:
        audio = tiny_model.projected(net, batch) if batch.heard else None
        logits, targets = tiny_model.answer_logits(net, batch, audio)
        conversation = (batch.labels[:, 1:] >= 0).nonzero()[:, 0]
        wrong = torch.zeros(len(batch.ids)).index_add(0, conversation, (logits.argmax(-1) != targets).float())
        right[task] += int((wrong == 0).sum())
        asked[task] += len(batch.ids)
    return {task: round(right[task] / asked[task], 3) for task in asked}
