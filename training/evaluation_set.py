"""The evaluation set of af3-tiny: voices, parameters and wordings that it never trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
from tqdm import tqdm

from training import dialogs, people, unknown_evaluation
from training.dialogs import Turn
from training.espeak_process import Espeak
from training.natural_evaluation import COUNTS, Ask, HeldOutVoices, Sources, backwards, heard
from training.questions import GENERAL_KNOWLEDGE, NO_AUDIO, THINK, WORDINGS, Question
from training.scenes import Clip, Layout, Studio, digit_string
from training.signals import SAMPLE_RATE

SEED = 4242
AFTER_10_S = Layout(before_s=(10, 10), after_s=(0.2, 0.4), longest_s=20)
IN_40_S = Layout(before_s=(1, 33), between_s=(0.2, 1), after_s=(40, 40), longest_s=40)

Build = Callable[[Studio], list[Turn]]


@dataclass(frozen=True)
class Beside:
    """A bar that another task sets: its share `times` this and `less` that."""

    task: str
    times: float = 1.0
    less: float = 0.0

    def of(self, share: float) -> float:
        return max(0.0, self.times * share - self.less)


@dataclass(frozen=True)
class Task:
    """A kind of question: how many to ask, and the share that must be right (None: measured only)."""

    name: str
    count: int
    bar: float | Beside | None
    ask: Ask


def _drawn(name: str, count: int, bar: float | Beside | None, build: Build) -> Task:
    """A task whose questions are drawn one after the other."""

    def ask(sources: Sources) -> Iterator[list[Turn]]:
        while True:
            yield build(sources.studio)

    return Task(name, count, bar, ask)


def _about(scene: str, *keys: str, layout: Layout = dialogs.SHORT, think: bool = False) -> Build:
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


def _digits(count: int) -> Build:
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


def _two_clips(key: str, in_turns: bool = False) -> Build:
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


def _mixture(layout: Layout) -> Build:
    """Ask one of four kinds of question; the length tests compare them across layouts."""

    def build(studio: Studio) -> list[Turn]:
        kinds = ("one_sound", "hear"), ("command", "transcribe"), ("melody", "instrument"), ("beeps", "beeps")
        scene, key = kinds[int(studio.rng.integers(len(kinds)))]
        return _about(scene, key, layout=layout)(studio)

    return build


def _natural(kind: str, bar: float) -> Task:
    return Task(f"natural voices: {kind}", COUNTS[kind], bar, heard(kind))


def _noisy(kind: str) -> Task:
    """The same clips with noise, at most 7 points below."""
    bar = Beside(f"natural voices: {kind}", less=0.07)
    return Task(f"natural voices, noise at 15 dB: {kind}", COUNTS[kind], bar, heard(kind, noise_db=15))


# A length test must reach this share of the short-clip figure.
LENGTH_SHARE = 0.9
LENGTH_BASE = "length: short clips"
_AS_SHORT = Beside(LENGTH_BASE, times=LENGTH_SHARE)

TASKS = (
    _drawn("speech: one digit", 100, 0.97, _digits(1)),
    _drawn("speech: two digits", 60, None, _digits(2)),
    _drawn("speech: three digits", 60, None, _digits(3)),
    _drawn("speech: four digits", 100, 0.85, _digits(4)),
    _drawn("speech: command word", 100, 0.97, _about("command", "transcribe")),
    _drawn("speech: phrase", 60, None, _about("phrase", "transcribe")),
    _drawn("speech: room or object of a phrase", 60, None, _about("phrase", "room", "object")),
    _drawn("speech: pace", 40, None, _about("digits", "pace")),
    _drawn("speech: a question asked by voice", 60, None, _about("spoken_question")),
    _drawn("sound: which", 100, 0.98, _about("one_sound", "hear")),
    _drawn("sound: order", 60, None, _about("sounds", "first_sound", "last_sound")),
    _drawn("sound: loud or quiet", 60, None, _about("one_sound", "loudness")),
    _drawn("sound: is there one", 60, None, _about("one_sound", "contains")),
    _drawn("sound: how many beeps (0-5)", 100, 0.90, _beeps),
    _drawn("sound: silence", 30, None, _about("silence", "hear", "kind")),
    _drawn("music: instrument", 100, 0.98, _about("melody", "instrument")),
    _drawn("music: rising or falling", 100, 0.98, _about("melody", "direction")),
    _drawn("music: tempo", 100, 0.90, _about("melody", "tempo")),
    _drawn("second turn", 100, 0.90, _second_turn),
    _drawn("two clips: which is higher", 50, 0.85, _two_clips("higher")),
    _drawn("two clips: which is louder", 50, 0.85, _two_clips("louder")),
    _drawn("two clips: which number is larger", 50, 0.85, _two_clips("larger")),
    _drawn("two clips: same sound or not", 50, 0.85, _two_clips("same")),
    _drawn("two clips: which has it", 50, 0.85, _two_clips("which")),
    _drawn("two clips: describe one", 50, 0.85, _two_clips("nth")),
    _drawn("two clips: one a turn", 50, 0.85, _two_turns_with_clips),
    _drawn("think form", 60, None, _about("one_sound", "kind", "contains", think=True)),
    _drawn("unheard wordings", 100, None, _unheard_wording),
    _drawn("text only", 60, None, _text_only),
    _drawn("length: short clips", 100, None, _mixture(dialogs.SHORT)),
    _drawn("length: after 10 s of silence", 100, _AS_SHORT, _mixture(AFTER_10_S)),
    _drawn("length: clips of 40 s", 100, _AS_SHORT, _mixture(IN_40_S)),
    _natural("one digit", 0.97),
    _natural("three digits", 0.85),
    _natural("four digits", 0.75),
    _natural("command", 0.95),
    Task("natural voices: a question asked by voice", COUNTS["question"], 0.90, heard("question")),
    _noisy("one digit"),
    _noisy("three digits"),
    _noisy("four digits"),
    _noisy("command"),
    _drawn("sound: noise alone", 40, None, unknown_evaluation.noise_alone),
    Task("typed in other words", len(GENERAL_KNOWLEDGE), None, unknown_evaluation.in_other_words),
    Task("unknown: typed", 100, 0.90, unknown_evaluation.typed_unknown),
    Task("unknown: in natural voices", COUNTS["unknown"], 0.90, heard("unknown")),
    Task("unknown: typed about a clip", 40, None, unknown_evaluation.unknown_about_a_clip),
    _drawn("unknown: the key of a melody", 30, None, unknown_evaluation.key_of_a_melody),
    Task("unknown: speech backwards", 40, None, backwards),
    Task(f"{people.PREFIX} one digit or command", 22, None, people.one_word),
    Task(f"{people.PREFIX} three digits", 41, None, people.several_digits),
    Task(f"{people.PREFIX} unknown", len(people.UNKNOWN_FILES), None, people.unknown_speech),
)
# At most this share of the questions with another answer (without the recordings of people) gets the honest sentence.
MOST_HONEST = 0.02


def write(folder: Path, share: float = 1.0, tasks: Sequence[Task] | None = None) -> int:
    """Write clips/*.wav, questions.jsonl (for `clients.commands.batch`) and expected.jsonl.

    `share` below 1 asks only that share of every task; `tasks` are by default all. Returns the number of questions.
    Raises BuildError when voices or recordings cannot be downloaded, ValueError when a task has too few questions.
    """
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    espeak = Espeak()
    tasks = TASKS if tasks is None else tasks
    counts = [max(1, round(task.count * share)) for task in tasks]
    with (
        (folder / "questions.jsonl").open("w") as questions,
        (folder / "expected.jsonl").open("w") as expected,
        HeldOutVoices() as voices,
        tqdm(total=sum(counts), unit="question") as bar,
    ):
        for number, (task, count) in enumerate(zip(tasks, counts, strict=True)):
            bar.set_postfix_str(task.name)
            # By name, so that a task that comes or goes leaves the others as they are.
            rng = np.random.default_rng([SEED, crc32(task.name.encode())])
            sources = Sources(Studio(rng, espeak, held_out=True), voices)
            i = -1
            for i, turns in enumerate(islice(task.ask(sources), count)):
                name = f"{number:02d}-{i:03d}"
                questions.write(json.dumps(_question(turns, name, folder)) + "\n")
                answer = turns[-1].answer
                expected.write(json.dumps({"id": name, "task": task.name, "answer": answer}) + "\n")
                bar.update()
            if i + 1 < count:
                raise ValueError(f"{task.name}: {i + 1} questions, {count} were promised")
    espeak.close()
    return sum(counts)


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
