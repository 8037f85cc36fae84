"""Writes the model card. Its figures come from the evaluation, so the card cannot disagree with it."""

from __future__ import annotations

import json
from pathlib import Path

from training.evaluate import Score, confusions, figures, table

CARD = """\
---
license: cc0-1.0
library_name: transformers
pipeline_tag: audio-text-to-text
---

# af3-tiny

A 4.3 M-parameter Audio Flamingo 3 that was trained from nothing on synthetic audio, so that a server of
`nvidia/audio-flamingo-3-hf` can be run, seen and tested without its 16 GB of weights. The classes, the file format,
the processor, the chat template and the special tokens are those of Transformers'
`AudioFlamingo3ForConditionalGeneration`; only the sizes are small. It shares no weights, text or data with NVIDIA's
model and says nothing about that model's quality.

| part | size |
|---|---|
| audio encoder (AF-Whisper's layout) | 4 layers of 192, 6 heads of 32, 128 mel bins, 30 s windows, 25 tokens a second |
| adaptor | 192 → 192 → 192 |
| language model (Qwen2's layout) | 4 layers of 192, 3 heads of 64, 1 key-value head, vocabulary 1088 |
| file | bfloat16; serve and compare it in float32 |

## What it was trained on

Audio made by `python -m training.train` of this repository while it trains: speech by espeak-ng voices (digits,
16 command words, phrases of a household assistant, spoken questions), eleven sounds and beeps, six instruments
playing notes, scales and arpeggios, all from numpy; silence and hiss around them; conversations of one to four
turns about one clip, about two, and about none. No recordings of people, no music of others, no web text.

It learns in three phases. The language model first *reads*: it answers about clips from what an encoder would say of
them, label by label, without any audio. Then the encoder *listens*: by CTC it learns to say the labels of a clip
(words, sounds, instruments, how high, loud or quiet, rising or falling, tempo) in the embeddings that the language
model reads by then. At last both *answer* together about clips that are heard. The labels and their rows of the
vocabulary are scaffolding: nobody who asks sees them.

## What it can do, and what not

It answers a closed list of questions (`training/questions.py`), in many wordings, in the words it was taught.
Anything else gets the answer to the nearest question it knows. It has heard synthetic voices only; expect nothing
of human speech. Figures for voices, parameters and (where it says so) wordings that it never trained on, whole
answers compared exactly, greedy:

<<table>>

A length task "holds" at {length_share:.0f} % of the short-clip figure. Printed by

    python -m training.evaluate make .cache/eval
    python -m training.evaluate answer .cache/eval .cache/eval/transformers.jsonl
    python -m training.evaluate score .cache/eval .cache/eval/transformers.jsonl

and, through the served ensemble, by `make eval`. The most frequent mistakes:

<<confusions>>

All of them are in `accuracy.json`.

## How to use it

    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    processor = AutoProcessor.from_pretrained("checkpoints/af3-tiny")
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained("checkpoints/af3-tiny", dtype="float32")

Transformers' processor takes one clip a conversation; several need a server, or `training/answer_questions.py`.
Weights, clips and card are dedicated to the public domain (CC0 1.0).
"""


def write(folder: Path, scores: dict[str, Score], length_share: float) -> None:
    """Write README.md and accuracy.json into the checkpoint's folder."""
    mistakes = "\n".join(f"- {line}" for line in confusions(scores).splitlines()) or "- none"
    card = CARD.replace("{length_share:.0f}", f"{100 * length_share:.0f}")
    card = card.replace("<<table>>", table(scores)).replace("<<confusions>>", mistakes)
    (folder / "README.md").write_text(card)
    (folder / "accuracy.json").write_text(json.dumps(figures(scores), indent=1) + "\n")
