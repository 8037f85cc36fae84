"""Speaks the clips of the training in natural voices: `python -m training.natural_clips`.

It can be stopped at any time and resumes; a clip depends on the seed and its number alone. About half a second of one
core per second of speech. The clips are kept in .cache/af3-tiny/natural/, in files of CLIPS_PER_FILE.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training import unknown
from training.natural_voices import NaturalVoices
from training.questions import GENERAL_KNOWLEDGE
from training.scenes import COMMANDS, REPEATING_SHARE, digit_words, household_phrase
from training.signals import Pcm

FOLDER = Path(".cache/af3-tiny/natural")
SEED = 20261130
FILES, CLIPS_PER_FILE, CHECK_FILES = 100, 50, 3

# What is spoken, and how often.
KINDS = {
    "1 digit": 0.07,
    "2 digits": 0.05,
    "3 digits": 0.09,
    "4 digits": 0.13,
    "5 digits": 0.04,
    "command": 0.19,
    "phrase": 0.06,
    "spoken_question": 0.16,
    "unknown": 0.21,
}
MIXED_SHARE = 0.5  # of the clips: between two voices, whose shares are drawn
SPEEDS = (0.75, 1.35)
# By a voice's first letter: American, British (few voices); of another language 1.
ENGLISH_WEIGHTS = {"a": 2, "b": 4}


def _text(rng: np.random.Generator, kind: str) -> str:
    if kind.endswith(("digit", "digits")):
        return digit_words(rng, int(kind[0]), REPEATING_SHARE)
    if kind == "command":
        return str(rng.choice(COMMANDS))
    if kind == "phrase":
        return household_phrase(rng)
    if kind == "spoken_question":
        return str(rng.choice([*GENERAL_KNOWLEDGE]))
    return unknown.said(rng, held_out=False)


def _marked(rng: np.random.Generator, text: str, kind: str) -> str:
    """Add the marks that change how a voice says it."""
    if "digits" in kind and rng.random() < 0.4:
        text = text.replace(" ", ", ")
    end = (
        "?"
        if kind == "spoken_question" and rng.random() < 0.7
        else str(rng.choice(["", ".", "?", "!"], p=[0.3, 0.5, 0.1, 0.1]))
    )
    return text + end


def _mix(rng: np.random.Generator, names: Sequence[str]) -> dict[str, float]:
    """Draw a voice or two and their shares."""
    weights = np.array([ENGLISH_WEIGHTS.get(name[0], 1) for name in names], float)
    first, second = (str(name) for name in rng.choice(names, 2, replace=False, p=weights / weights.sum()))
    if rng.random() > MIXED_SHARE:
        return {first: 1.0}
    share = float(rng.uniform(0.3, 0.7))
    return {first: share, second: 1 - share}


def speak(voices: NaturalVoices, number: int) -> tuple[str, str, Pcm]:
    """Speak clip `number`: its kind, its text, its samples."""
    rng = np.random.default_rng([SEED, number])
    kind = str(rng.choice([*KINDS], p=[*KINDS.values()]))
    text = _text(rng, kind)
    mix = _mix(rng, voices.training)
    british = next(iter(mix)).startswith("b") or rng.random() < 0.15
    return kind, text, voices.say(_marked(rng, text, kind), mix, float(rng.uniform(*SPEEDS)), british)


def _write(file: int) -> None:
    path = FOLDER / f"{file:04d}.npz"
    if path.exists():
        return
    clips = [speak(_voices, file * CLIPS_PER_FILE + i) for i in range(CLIPS_PER_FILE)]
    table = [[kind, text, len(pcm)] for kind, text, pcm in clips]
    samples = (np.concatenate([pcm for _, _, pcm in clips]) * 32767).astype(np.int16)
    with path.with_suffix(".new").open("wb") as made:
        np.savez(made, table=np.array(json.dumps(table)), samples=samples)
    path.with_suffix(".new").replace(path)


def _begin() -> None:
    global _voices
    _voices = NaturalVoices()


@dataclass
class NaturalClips:
    """The cache, read: clips by kind."""

    by_kind: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=dict)

    @classmethod
    def read(cls, check: bool, folder: Path = FOLDER) -> NaturalClips:
        """Read the clips to train on or, for `check`, those of the last CHECK_FILES, which are never trained on.

        Raises FileNotFoundError that names the command when there is none.
        """
        found = cls()
        files = sorted(folder.glob("*.npz"))
        for path in files[-CHECK_FILES:] if check else files[:-CHECK_FILES]:
            held = np.load(path)
            samples, start = held["samples"], 0
            for kind, text, length in json.loads(str(held["table"])):
                found.by_kind.setdefault(kind, []).append((text, samples[start : start + length]))
                start += length
        if not found.by_kind:
            raise FileNotFoundError(f"{folder}: no clips; make them with python -m training.natural_clips")
        return found

    def draw(self, rng: np.random.Generator, kind: str) -> tuple[str, Pcm]:
        """A text in lower case without marks, and its samples: float32 [n] at 16 kHz with a peak of 1."""
        clips = self.by_kind[kind]
        text, pcm = clips[int(rng.integers(len(clips)))]
        return text, pcm.astype(np.float32) / 32767


def make(files: int = FILES, processes: int = 2) -> None:
    """Speak what is missing of the cache."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [file for file in range(files) if not (FOLDER / f"{file:04d}.npz").exists()]
    if not missing:
        return
    NaturalVoices().close()  # downloads once
    with multiprocessing.get_context("spawn").Pool(processes, _begin) as pool:
        list(tqdm(pool.imap_unordered(_write, missing), total=len(missing), unit="file", desc="speak"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=FILES, help=f"of {CLIPS_PER_FILE} clips each")
    make(parser.parse_args(arguments).files)


if __name__ == "__main__":
    main()
