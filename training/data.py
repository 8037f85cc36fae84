"""Synthesises the training batches while the model trains; no conversation repeats.

Pool k of a phase depends only on the seed, the process and k, so a resumed run sees exactly the batches that an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from training import features
from training.dialogs import (
    LONG,
    PADDED,
    SHORT,
    Turn,
    about_one_clip,
    about_two_clips,
    spans,
    training_dialog,
)
from training.espeak_process import Espeak
from training.mixes import SYNTHETIC, Mix
from training.natural_clips import NaturalClips
from training.scenes import LABELS, REPEATING_SHARE, Clip, Layout, Studio
from training.tiny_model import ENCODER_POSITIONS, Batch
from training.train_tokenizer import label_ids

MOVED_SHARE = 0.3
IGNORED = -100
MOST_SILENCE = 300  # audio tokens, 12 s


@dataclass(frozen=True)
class Example:
    """The token ids of one conversation, and the encoder's inputs for its clips."""

    ids: list[int]
    labels: list[int]
    positions: list[int]
    read: list[bool]
    mels: list[torch.Tensor]
    frames: list[int]
    offsets: list[int]
    ctc: list[list[int]]
    clip_windows: list[int]


def encode_dialog(
    turns: Sequence[Turn],
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator | None = None,
    label_ids: Sequence[int] | None = None,
    nothing_id: int | None = None,
) -> Example:
    """Encode a conversation with one audio token per encoder row; only the assistant's words are trained on.

    With `rng`, some conversations are moved: their clips start later in the 30 s window and the text around them is
    further away, as if there were silence. This trains every position at the cost of a short clip.
    With `label_ids` (see train_tokenizer.label_ids), label tokens replace the audio of a clip. With `nothing_id` (the
    first of them), up to MOST_SILENCE "nothing" tokens surround every clip: long clips at the cost of text.
    """
    audio_id = tokenizer.convert_tokens_to_ids("<sound>")
    moved = rng is not None and rng.random() < MOVED_SHARE
    example = Example([], [], [], [], [], [], [], [], [])
    position = 0
    for piece, trained in spans(turns):
        gap_after = 0
        is_clip = isinstance(piece, Clip)
        if not is_clip:
            ids = tokenizer.encode(piece)
        elif label_ids is not None and rng is not None:
            ids = label_tokens(piece.labels, label_ids, rng)
        else:
            windows = features.split_windows(piece.pcm)
            counts = [features.token_count(len(window)) for window in windows]
            offset = 0
            if moved and rng is not None and len(windows) == 1:
                offset = int(rng.integers(0, ENCODER_POSITIONS - 2 * counts[0]))
                position += offset // 2
            example.mels.extend(features.log_mel(window) for window in windows)
            example.frames.extend(features.encoder_frames(len(window)) for window in windows)
            example.offsets.extend([offset] * len(windows))
            example.ctc.append([LABELS.index(label) + 1 for label in piece.labels])
            example.clip_windows.append(len(windows))
            ids = [audio_id] * sum(counts)
            if nothing_id is not None and rng is not None:
                before, after = (int(count) for count in rng.integers(0, MOST_SILENCE, 2))
                ids = [nothing_id] * before + ids + [nothing_id] * after
        if is_clip and moved and rng is not None:
            position += 750 * int(rng.integers(0, 2))
            gap_after = int(rng.integers(0, 600))
        example.ids.extend(ids)
        example.labels.extend(ids if trained else [IGNORED] * len(ids))
        example.positions.extend(range(position, position + len(ids)))
        example.read.extend(is_clip and token != audio_id for token in ids)
        position += len(ids) + gap_after
    return example


def label_tokens(labels: Sequence[str], label_ids: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Tokens that stand for a clip's audio: each label some times, "nothing" before, between and after.

    As the encoder says them: a spoken digit for 1 to 4 tokens of 40 ms, up to 20 tokens before the next, a note for up
    to 20. A language model that has read shorter ones only miscounts what it hears.
    """
    nothing = label_ids[0]
    widest = int(rng.choice([4, 10, 20, 60], p=[0.25, 0.4, 0.3, 0.05]))
    longest = int(rng.choice([1, 2, 4, 12], p=[0.25, 0.4, 0.3, 0.05]))

    def gap(least: int = 1) -> list[int]:
        return [nothing] * int(rng.integers(least, widest + 1))

    ids = gap()
    for label, following in zip(labels, [*labels[1:], ""], strict=True):
        ids += [label_ids[LABELS.index(label) + 1]] * int(rng.integers(1, longest + 1))
        ids += gap(least=1 if following == label else 0)  # CTC parts equal labels by "nothing"
    return ids


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    longest = max(len(e.ids) for e in examples)
    mels = [mel for e in examples for mel in e.mels]
    if not mels:  # text only: one silent window keeps the shapes
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
        read=torch.tensor([e.read + [False] * (longest - len(e.read)) for e in examples]),
        ctc_labels=torch.tensor([label for labels in ctc for label in labels], dtype=torch.long),
        ctc_lengths=torch.tensor([len(labels) for labels in ctc] or [0]),
        clip_windows=torch.tensor([n for e in examples for n in e.clip_windows] or [1]),
    )


def batched(examples: Sequence[Example], pad_id: int, count: int) -> list[Batch]:
    """Sort the examples by length and cut them into `count` batches."""
    ordered = sorted(examples, key=lambda e: len(e.ids))
    size = -(-len(ordered) // count)
    return [collate(ordered[i : i + size], pad_id) for i in range(0, len(ordered), size)]


@dataclass(frozen=True)
class Phase:
    """A phase of the training. One process synthesises a pool at a time: `dialogs` conversations in `batches`.

    read: the language model learns to answer from label tokens in place of audio, which is cheap.
    listen: the encoder learns those labels with CTC, in the language model's own embeddings.
    answer: both train together on conversations with audio.
    people: as answer, with natural voices, rooms, noise, and what af3-tiny does not know; `read_dialogs` further
    conversations of a pool are read, since comparing and counting are learned by the language model, not by the
    encoder.
    """

    name: str
    pools: int
    dialogs: int
    batches: int
    peak_lr: float
    last_lr: float
    far_from: float = 1.0  # after this share of the phase, some pools have padded and long clips
    far_every: int = 10  # such a pool takes five times as long
    read_dialogs: int = 0
    mix: Mix = SYNTHETIC


COUNTED = ("recital", "beeps")
READ_BATCHES = 4
SILENCE_EVERY = 3  # in the answer phase, every third pool has a batch with silence around its clips
PADDED_DIALOGS, LONG_DIALOGS, PADDED_BATCH, LONG_BATCH = 32, 8, 8, 2


class Stream(IterableDataset):
    """Yields a phase's pools of batches from pool `first` on; runs in a worker process beside the training.

    All processes of a run (`rank`) shuffle their batches alike, so they train on similar sizes at the same time
    and none waits for another.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, phase: Phase, seed: tuple[int, ...], rank: int, first: int
    ) -> None:
        self._tokenizer, self._phase, self._seed = tokenizer, phase, seed
        self._rank, self._pools = rank, range(first, phase.pools)
        self._ids = label_ids(tokenizer)
        self._label_ids = self._ids if phase.name == "read" else None
        self._nothing_id = self._ids[0] if phase.name in ("answer", "people") else None

    def __iter__(self) -> Iterator[list[Batch]]:
        torch.set_num_threads(1)
        espeak = None if self._label_ids else Espeak()
        natural = NaturalClips.read(check=False) if self._phase.name == "people" else None
        for pool in self._pools:
            rng = np.random.default_rng([*self._seed, pool, self._rank])
            repeating = (
                REPEATING_SHARE if self._label_ids else 0.0
            )  # who hears such strings hears digits twice
            studio = Studio(rng, espeak, held_out=False, natural=natural, repeating=repeating)
            far = pool >= self._phase.far_from * self._phase.pools and pool % self._phase.far_every == 0
            batches = self._far_batches(studio) if far else self._batches(studio, pool % SILENCE_EVERY == 0)
            order = np.random.default_rng([*self._seed, pool]).permutation(len(batches))
            yield [batches[i] for i in order]
        if espeak:
            espeak.close()

    def _batches(self, studio: Studio, silence: bool) -> list[Batch]:
        examples = [
            self._example(studio, silence=silence and i < self._phase.dialogs // self._phase.batches)
            for i in range(self._phase.dialogs)
        ]
        return batched(examples, self._tokenizer.pad_token_id, self._phase.batches) + self._read(studio)

    def _read(self, studio: Studio) -> list[Batch]:
        """Conversations whose clips are read: some of the mix, some that compare two clips, some that count."""
        silent, mix = replace(studio, espeak=None, repeating=REPEATING_SHARE), self._phase.mix
        kinds = (
            lambda: training_dialog(silent, mix),
            lambda: about_two_clips(silent, mix.pair(silent.rng)),
            lambda: about_one_clip(silent, "recital"),
            lambda: about_one_clip(silent, str(silent.rng.choice(COUNTED))),
        )
        examples = []
        for i in range(self._phase.read_dialogs):
            silent.layout = SHORT
            turns = kinds[i % len(kinds)]()
            examples.append(encode_dialog(turns, self._tokenizer, silent.rng, self._ids))
        return batched(examples, self._tokenizer.pad_token_id, READ_BATCHES) if examples else []

    def _far_batches(self, studio: Studio) -> list[Batch]:
        batches = []
        for layout, dialogs, size in (
            (PADDED, PADDED_DIALOGS, PADDED_BATCH),
            (LONG, LONG_DIALOGS, LONG_BATCH),
        ):
            examples = [self._example(studio, layout) for _ in range(dialogs)]
            batches += batched(examples, self._tokenizer.pad_token_id, dialogs // size)
        return batches

    def _example(self, studio: Studio, layout: Layout | None = None, silence: bool = False) -> Example:
        if self._phase.name == "listen":
            studio.layout = layout or SHORT
            turns = [Turn((studio.record(self._phase.mix.scene(studio.rng)),), "", "")]
        else:
            turns = training_dialog(studio, self._phase.mix, layout)
        nothing_id = self._nothing_id if silence else None
        return encode_dialog(turns, self._tokenizer, studio.rng, self._label_ids, nothing_id)
