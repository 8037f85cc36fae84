"""The stream of training batches: conversations are synthesised while the model trains, and never repeat.

Pool k of the stream depends on the seed and on k alone, so a resumed run goes on with exactly the batches that an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from checkpoints import features
from checkpoints.dialogs import Turn, spans, training_dialog
from checkpoints.espeak import Espeak
from checkpoints.model import ENCODER_POSITIONS, Batch
from checkpoints.scenes import LABELS, Clip, Studio

POOL_DIALOGS = 128
BATCH_TOKENS = 3072  # padded tokens of a batch: twenty short conversations, or one with a minute of audio
MOVED_SHARE = 0.3
FAR_FROM_POOL = 300  # long clips cost ten short ones each: they come when short ones are understood
IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One conversation as token ids, with what the encoder needs of its clips."""

    ids: list[int]
    labels: list[int]
    positions: list[int]
    mels: list[torch.Tensor]
    frames: list[int]
    offsets: list[int]
    ctc: list[list[int]]
    clip_windows: list[int]


def encode_dialog(
    turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator | None = None
) -> Example:
    """Token ids with one audio token per encoder row; labels on what the assistant says only.

    With `rng`, some conversations are moved: their clips pretend to lie later in their 30 s, and the text around
    them to be further away, as if there were silence. That teaches every position for the price of a short clip.
    """
    audio_id = tokenizer.convert_tokens_to_ids("<sound>")
    moved = rng is not None and rng.random() < MOVED_SHARE
    example = Example([], [], [], [], [], [], [], [])
    position = 0
    for piece, trained in spans(turns):
        if isinstance(piece, Clip):
            windows = features.split_windows(piece.pcm)
            counts = [features.token_count(len(window)) for window in windows]
            offset, gap_after = 0, 0
            if moved and rng is not None and len(windows) == 1:
                offset = int(rng.integers(0, ENCODER_POSITIONS - 2 * counts[0]))
                position += offset // 2 + 750 * int(rng.integers(0, 2))
                gap_after = int(rng.integers(0, 600))
            example.mels.extend(features.log_mel(window) for window in windows)
            example.frames.extend(features.encoder_frames(len(window)) for window in windows)
            example.offsets.extend([offset] * len(windows))
            example.ctc.append([LABELS.index(label) + 1 for label in piece.labels])
            example.clip_windows.append(len(windows))
            ids = [audio_id] * sum(counts)
        else:
            gap_after = 0
            ids = tokenizer.encode(piece)
        example.ids.extend(ids)
        example.labels.extend(ids if trained else [IGNORED] * len(ids))
        example.positions.extend(range(position, position + len(ids)))
        position += len(ids) + gap_after
    return example


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    longest = max(len(e.ids) for e in examples)
    mels = [mel for e in examples for mel in e.mels]
    if not mels:  # text only: one window of nothing keeps the shapes
        mels = [torch.zeros(features.MEL_BINS, 6)]
    widest = max(mel.shape[1] for mel in mels)

    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

    frames = [f for e in examples for f in e.frames] or [1]
    ctc = [labels for e in examples for labels in e.ctc]
    return Batch(
        mels=torch.stack([torch.nn.functional.pad(mel, (0, widest - mel.shape[1])) for mel in mels]),
        frames=torch.tensor(frames),
        offsets=torch.tensor([o for e in examples for o in e.offsets] or [0]),
        ids=padded([e.ids for e in examples], pad_id),
        labels=padded([e.labels for e in examples], IGNORED),
        positions=padded([e.positions for e in examples], 0),
        mask=torch.tensor([[i < len(e.ids) for i in range(longest)] for e in examples]),
        ctc_labels=torch.tensor([label for labels in ctc for label in labels], dtype=torch.long),
        ctc_lengths=torch.tensor([len(labels) for labels in ctc] or [0]),
        clip_windows=torch.tensor([n for e in examples for n in e.clip_windows] or [1]),
    )


def batched(examples: Sequence[Example], pad_id: int) -> list[Batch]:
    """Examples of like length together, as many as BATCH_TOKENS holds."""
    batches, current = [], []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        if current and (len(current) + 1) * len(example.ids) > BATCH_TOKENS:
            batches.append(collate(current, pad_id))
            current = []
        current.append(example)
    return [*batches, collate(current, pad_id)]


class Stream(IterableDataset):
    """Pools of batches, from `first_pool` up to `pools`; runs in a worker process beside the training."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int, first_pool: int, pools: int) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._pools = range(first_pool, pools)

    def __iter__(self) -> Iterator[list[Batch]]:
        torch.set_num_threads(1)
        espeak = Espeak()
        for pool in self._pools:
            rng = np.random.default_rng([self._seed, pool])
            studio = Studio(rng, espeak, held_out=False)
            far = pool >= FAR_FROM_POOL
            examples = [
                encode_dialog(training_dialog(studio, far), self._tokenizer, rng) for _ in range(POOL_DIALOGS)
            ]
            batches = batched(examples, self._tokenizer.pad_token_id)
            yield [batches[i] for i in rng.permutation(len(batches))]
        espeak.close()
