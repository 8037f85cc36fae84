"""The evaluation set of af3-tiny: voices, parameters and wordings that it never trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from training import dialogs
from training.dialogs import Turn
from training.espeak_process import Espeak
from training.questions import GENERAL_KNOWLEDGE, NO_AUDIO, THINK, WORDINGS, Question
from training.scenes import Clip, Layout, Studio, digit_string
from training.signals import SAMPLE_RATE

SEED = 4242
AFTER_10_S = Layout(before_s=(10, 10), after_s=(0.2, 0.4), longest_s=20)
IN_40_S = Layout(before_s=(1, 33), between_s=(0.2, 1), after_s=(40, 40), longest_s=40)


@dataclass(frozen=True)
class Task:
    """A kind of question: how many to ask, and the share that must be right (None: measured only)."""

    name: str
    count: int
    bar: float | None
    build: Callable[[Studio], list[Turn]]


def _about(
    scene: str, *keys: str, layout: Layout = dialogs.SHORT, think: bool = False
) -> Callable[[Studio], list[Turn]]:
    """Ask one question about one clip: one of `keys`; without keys the clip comes without a question."""

    def build(studio: Studio) -> list[Turn]:
        studio.layout = layout
        if not keys:
            clip = studio.record(scene)
            return [Turn((clip,), clip.unasked, scene)]
        clip, question = _recorded(studio, scene, str(studio.rng.choice(keys)))
        text = question.worded(studio.rng, held_out=False)
        if think:
            return [Turn((clip, text + THINK), dialogs.thought([clip], question.answer), scene)]
        return [Turn((clip, text), question.answer, scene)]

    return build


def _recorded(studio: Studio, scene: str, key: str) -> tuple[Clip, Question]:
    """Record clips of the scene until one fits this kind of question."""
    loudness = str(studio.rng.choice(["loud", "quiet"])) if key == "loudness" else None
    while True:
        clip = studio.record(scene, loudness)
        fitting = [question for question in clip.questions if question.key == key]
        if fitting:
            return clip, fitting[int(studio.rng.integers(len(fitting)))]


def _digits(count: int) -> Callable[[Studio], list[Turn]]:
    def build(studio: Studio) -> list[Turn]:
        studio.layout = dialogs.SHORT
        clip = studio.finished(digit_string(studio, count))
        return [Turn((clip, "Transcribe the input speech."), clip.unasked, "digits")]

    return build


def _beeps(studio: Studio) -> list[Turn]:
    """Ask for 0 to 5 beeps, each count equally often; zero beeps is silence or some other sound."""
    some = studio.rng.random() < 5 / 6
    return _about("beeps" if some else str(studio.rng.choice(["silence", "one_sound"])), "beeps")(studio)


def _second_turn(studio: Studio) -> list[Turn]:
    """Ask a second question about a clip, after a first one with its right answer."""
    studio.layout = dialogs.SHORT
    while True:
        scene = str(studio.rng.choice(["digits", "sounds", "melody", "phrase"]))
        turns = dialogs.about_one_clip(studio, scene, most_turns=2)
        if len(turns) == 2 and not turns[1].task.startswith("think"):
            return turns


def _two_clips(key: str, in_turns: bool = False) -> Callable[[Studio], list[Turn]]:
    def build(studio: Studio) -> list[Turn]:
        studio.layout = dialogs.SHORT
        return dialogs.about_two_clips(studio, key, in_turns, held_out_wording=True)

    return build


def _two_turns_with_clips(studio: Studio) -> list[Turn]:
    return _two_clips(str(studio.rng.choice(["higher", "louder", "which"])), in_turns=True)(studio)


def _text_only(studio: Studio) -> list[Turn]:
    rng = studio.rng
    if rng.random() < 0.5:
        question = Question(
            str(rng.choice([key for key in WORDINGS if key not in ("contains", "which", "nth")])), ""
        )
        return [Turn((question.worded(rng, held_out=False),), NO_AUDIO, "text_only")]
    text = str(rng.choice([*GENERAL_KNOWLEDGE]))
    return [Turn((f"{text.capitalize()}?",), GENERAL_KNOWLEDGE[text], "text_only")]


_UNHEARD = {
    "command": ("transcribe",),
    "one_sound": ("hear", "kind", "contains", "loudness"),
    "sounds": ("first_sound", "last_sound"),
    "digits": ("first_word", "last_word"),
    "melody": ("instrument", "direction", "tempo"),
    "beeps": ("beeps",),
}


def _unheard_wording(studio: Studio) -> list[Turn]:
    studio.layout = dialogs.SHORT
    scene = str(studio.rng.choice([*_UNHEARD]))
    clip, question = _recorded(studio, scene, str(studio.rng.choice(_UNHEARD[scene])))
    return [Turn((clip, question.worded(studio.rng, held_out=True)), question.answer, scene)]


def _mixture(layout: Layout) -> Callable[[Studio], list[Turn]]:
    """Ask one of four kinds of question; the length tests compare them across layouts."""

    def build(studio: Studio) -> list[Turn]:
        kinds = ("one_sound", "hear"), ("command", "transcribe"), ("melody", "instrument"), ("beeps", "beeps")
        scene, key = kinds[int(studio.rng.integers(len(kinds)))]
        return _about(scene, key, layout=layout)(studio)

    return build


TASKS = (
    Task("speech: one digit", 100, 0.97, _digits(1)),
    Task("speech: two digits", 60, None, _digits(2)),
    Task("speech: three digits", 60, None, _digits(3)),
    Task("speech: four digits", 100, 0.85, _digits(4)),
    Task("speech: command word", 100, 0.97, _about("command", "transcribe")),
    Task("speech: phrase", 60, None, _about("phrase", "transcribe")),
    Task("speech: room or object of a phrase", 60, None, _about("phrase", "room", "object")),
    Task("speech: pace", 40, None, _about("digits", "pace")),
    Task("speech: a question asked by voice", 60, None, _about("spoken_question")),
    Task("sound: which", 100, 0.98, _about("one_sound", "hear")),
    Task("sound: order", 60, None, _about("sounds", "first_sound", "last_sound")),
    Task("sound: loud or quiet", 60, None, _about("one_sound", "loudness")),
    Task("sound: is there one", 60, None, _about("one_sound", "contains")),
    Task("sound: how many beeps (0-5)", 100, 0.90, _beeps),
    Task("sound: silence", 30, None, _about("silence", "hear", "kind")),
    Task("music: instrument", 100, 0.98, _about("melody", "instrument")),
    Task("music: rising or falling", 100, 0.98, _about("melody", "direction")),
    Task("music: tempo", 100, 0.90, _about("melody", "tempo")),
    Task("music: major or minor", 60, None, _about("melody", "mode")),
    Task("second turn", 100, 0.90, _second_turn),
    Task("two clips: which is higher", 50, 0.85, _two_clips("higher")),
    Task("two clips: which is louder", 50, 0.85, _two_clips("louder")),
    Task("two clips: which number is larger", 50, 0.85, _two_clips("larger")),
    Task("two clips: same sound or not", 50, 0.85, _two_clips("same")),
    Task("two clips: which has it", 50, 0.85, _two_clips("which")),
    Task("two clips: describe one", 50, 0.85, _two_clips("nth")),
    Task("two clips: one a turn", 50, 0.85, _two_turns_with_clips),
    Task("think form", 60, None, _about("one_sound", "kind", "contains", think=True)),
    Task("unheard wordings", 100, None, _unheard_wording),
    Task("text only", 60, None, _text_only),
    Task("length: short clips", 100, None, _mixture(dialogs.SHORT)),
    Task("length: after 10 s of silence", 100, None, _mixture(AFTER_10_S)),
    Task("length: clips of 40 s", 100, None, _mixture(IN_40_S)),
)
# A length test must reach this share of the short-clip figure.
LENGTH_SHARE = 0.9
LENGTH_BASE = "length: short clips"
LENGTH_TASKS = ("length: after 10 s of silence", "length: clips of 40 s")


def write(folder: Path, share: float = 1.0) -> int:
    """Write clips/*.wav, questions.jsonl (for `clients.commands.batch`) and expected.jsonl.

    `share` below 1 asks only that share of every task. Returns the number of questions.
    """
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    espeak = Espeak()
    asked = 0
    with (
        (folder / "questions.jsonl").open("w") as questions,
        (folder / "expected.jsonl").open("w") as expected,
    ):
        for number, task in enumerate(tqdm(TASKS, unit="task")):
            studio = Studio(np.random.default_rng([SEED, number]), espeak, held_out=True)
            for i in range(max(1, round(task.count * share))):
                name = f"{number:02d}-{i:03d}"
                turns = task.build(studio)
                questions.write(json.dumps(_question(turns, name, folder)) + "\n")
                answer = turns[-1].answer
                expected.write(json.dumps({"id": name, "task": task.name, "answer": answer}) + "\n")
                asked += 1
    espeak.close()
    return asked


def _question(turns: list[Turn], name: str, folder: Path) -> dict:
    """Build one line of questions.jsonl: the conversation up to the last question, with the right earlier answers."""
    audio: list[str] = []
    messages = []
    for i, turn in enumerate(turns):
        content = []
        for part in turn.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
                continue
            path = f"clips/{name}-{len(audio)}.wav"
            soundfile.write(folder / path, part.pcm, SAMPLE_RATE, subtype="PCM_16")
            audio.append(path)
            content.append({"type": "audio"})
        messages.append({"role": "user", "content": content})
        if i + 1 < len(turns):
            messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return {"id": name, "audio": audio, "messages": messages}
