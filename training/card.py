"""Writes the model card. Its figures come from the evaluation, so the card cannot disagree with it."""

from __future__ import annotations

import json
from pathlib import Path

from training.evaluate import Score, confusions, figures, table
from training.natural_evaluation import UNREAD
from training.natural_voices import HELD_OUT
from training.unknown import HONEST

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

Audio made by `python -m training.train` of this repository: speech by espeak-ng voices and, in 4 850 clips, by 48 of
the 54 voices of Kokoro-82M and mixes of them (digits, 17 command words, phrases of a household assistant, spoken
questions, and sentences that it does not know); eleven sounds and beeps, six instruments playing notes, scales and
arpeggios, all from numpy; rooms, microphones, telephones, clipping and noise; conversations of one to four turns about
one clip, about two, and about none. No recordings of people, no music of others, no web text.

It learns in four phases. The language model first *reads*: it answers about clips from what an encoder would say of
them, label by label, without any audio. Then the encoder *listens*: by CTC it learns to say the labels of a clip
(words, sounds, instruments, how high, loud or quiet, rising or falling, tempo) in the embeddings that the language
model reads by then. Then both *answer* together about clips that are heard. At last they hear *people*: natural voices,
disturbed signals, and whatever deserves the sentence below. Words that it does not know have one label together. The
labels and their rows of the vocabulary are scaffolding: nobody who asks sees them.

These weights are not one run from nothing. Two hours and twenty minutes on two cores with AMX made those of version
0.1.0 in the first three phases, whose settings were changed on the way. On two cores with AVX-512, 79 minutes made the
first that heard people, 88 those after them, and 91 more these, in the last two phases of `training/phases.py`: they
are the mean of the weights at the ends of both. A run from the start has not been made, and will give other figures.

To count was the hardest. It had read strings by looking for what followed the last digit, which fails where a digit
comes twice: half of the strings that are read have few different digits. Those that are heard have not, since it
learned to hear digits twice. And it had read labels that were closer together than the encoder says them: with the
encoder's gaps it read 66 % of four digits, and 97 % since the last two phases. Asked which of two clips has a sound, it
says what each has; to find the clip by its sound stayed a guess.

## What it can do, and what not

It answers a closed list of questions (`training/questions.py`), in many wordings, in the words it was taught. To
anything else it should say "{honest}" Figures for voices, parameters and (where it says so)
wordings that it never trained on, whole answers compared exactly, greedy:

<<table>>

A length task "holds" at {length_share:.0f} % of the short-clip figure, a task with noise at 7 points less than the
same clips without.

*Natural voices* are six of Kokoro-82M's ({held_out}), of which
the training has no part; the others are espeak-ng's. An independent recogniser, CMU's pocketsphinx, judges the natural
clips. It is told what kind of clip each is, and nothing is asked about a clip that it does not read. It read:
{judged}.

*People* are recordings that packages carry: Allison Smith's telephone prompts (Debian's asterisk-core-sounds-en-g722,
CC BY-SA 3.0), David C Dawson's digits (Debian's saytime, GPL) in the band of a telephone, and the test data of
pocketsphinx (BSD; a novel's readings in the public domain). They are downloaded for the evaluation and no part of
this model: nothing was trained on them. Three digits are single digits of one speaker, joined with short pauses; one
string was spoken as a whole.

Printed by

    python -m training.evaluate make .cache/eval
    python -m training.evaluate answer .cache/eval .cache/eval/transformers.jsonl
    python -m training.evaluate score .cache/eval .cache/eval/transformers.jsonl

and, through the served ensemble, by `make eval`, which fails when a figure differs. The
most frequent mistakes:

<<confusions>>

All of them are in `accuracy.json`.

## How to use it

    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    processor = AutoProcessor.from_pretrained("checkpoints/af3-tiny")
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained("checkpoints/af3-tiny", dtype="float32")

Transformers' processor takes one clip a conversation; several need a server, or `training/answer_questions.py`.
Weights, clips and card are dedicated to the public domain (CC0 1.0).
"""


def judged() -> str:
    """Say how many of the natural clips the recogniser read, by kind."""
    kinds = json.loads(UNREAD.read_text())["kinds"]
    return ", ".join(
        f"{entry['candidates'] - len(entry['unread'])} of {entry['candidates']} clips of the kind {kind}"
        for kind, entry in kinds.items()
    )


def write(folder: Path, scores: dict[str, Score], length_share: float) -> None:
    """Write README.md and accuracy.json into the checkpoint's folder."""
    mistakes = "\n".join(f"- {line}" for line in confusions(scores).splitlines()) or "- none"
    card = CARD.replace("{length_share:.0f}", f"{100 * length_share:.0f}").replace("{honest}", HONEST)
    card = card.replace("{held_out}", ", ".join(HELD_OUT)).replace("{judged}", judged())
    card = card.replace("<<table>>", table(scores)).replace("<<confusions>>", mistakes)
    (folder / "README.md").write_text(card)
    (folder / "accuracy.json").write_text(json.dumps(figures(scores), indent=1) + "\n")
