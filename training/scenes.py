"""Synthesises clips of speech, sounds and music, each with questions and right answers.

Long because it is a list: one short function per kind of scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from training.espeak_process import Espeak
from training.espeak_voices import PACES, Speaker
from training.questions import GENERAL_KNOWLEDGE, NUMBERS, Question, transcript
from training.rooms import another_throat, disturbed
from training.signals import (
    INSTRUMENTS,
    SAMPLE_RATE,
    SOUNDS,
    Pcm,
    Rng,
    beep,
    noise,
    normalised,
    note,
    sound,
)
from training.unknown import HONEST, said

DIGITS = NUMBERS[:10]
COMMANDS = "yes no up down left right stop go open close start pause louder softer next help".split()
ROOMS = ["kitchen", "bedroom", "office", "garage"]
SWITCHED = ["light", "radio", "fan", "heater"]
MOVED = ["door", "window", "curtain", "gate"]
NAMES = ["anna", "peter", "maria", "david"]
LOWEST_MIDI, HIGHEST_MIDI = 48, 84
TEMPOS = [60, 90, 120, 180]
SCALES = {"major": (0, 2, 4, 5, 7), "minor": (0, 2, 3, 5, 7)}
ARPEGGIOS = {"major": (0, 4, 7, 12), "minor": (0, 3, 7, 12)}

# Peak amplitudes. No question asks for the loudness of a medium clip.
PEAKS = {"loud": (0.5, 0.95), "medium": (0.1, 0.4), "quiet": (0.015, 0.05)}

NOISE_HEARD = "I hear noise."
MOST_NATURAL_DIGITS = 5  # in one clip of a natural voice
JOINED_SHARE = 0.35  # of those with several: two clips, often of two voices
REPEATING_SHARE = 0.5  # of the strings of digits that are trained on: of few different digits
# Of the natural clips that repeat a digit, so many are taken where strings are drawn evenly.
FEWER_REPEATS = 0.3
NATURAL_SHARE = 0.65  # of the speech, where there are natural voices
DISTURBED = {"speech": 0.75, "mixed": 0.5, "sound": 0.25, "music": 0.25, "noise": 0.2}

ARTICLES = {"rain": "rain", "engine": "an engine", "thunder": "thunder"}
BEEP_COUNTS = ["no beeps", "one beep", "two beeps", "three beeps", "four beeps", "five beeps"]


def named(thing: str) -> str:
    """Add the article: 'a bell', 'an engine', 'rain'."""
    return ARTICLES.get(thing, f"an {thing}" if thing[0] in "aeiou" else f"a {thing}")


@dataclass(frozen=True)
class Clip:
    """A clip and what the trainer knows about it.

    pcm: float32 [n] at 16 kHz. heard: a noun phrase that describes it. unasked: the answer when it comes without a
    question. labels: its events in order, for the encoder's CTC loss. traits: the values that pairs compare.
    """

    pcm: Pcm
    kind: str
    heard: str
    unasked: str
    labels: tuple[str, ...]
    questions: tuple[Question, ...]
    traits: dict[str, float | str]


@dataclass(frozen=True)
class Layout:
    """Ranges of silence, in seconds, before, between and after the pieces of a clip."""

    before_s: tuple[float, float] = (0.0, 0.35)
    between_s: tuple[float, float] = (0.08, 0.6)
    after_s: tuple[float, float] = (0.0, 0.35)
    longest_s: float = 12.0


class NaturalSpeech(Protocol):
    """Clips of natural voices (`natural_clips.NaturalClips`), by kind."""

    def draw(self, rng: Rng, kind: str) -> tuple[str, Pcm]: ...


@dataclass
class Studio:
    """Records clips: holds the random generator, the speech synthesisers and the layout of silence.

    natural: None, or the clips that most speech is drawn from; then every signal passes rooms and microphones too.
    repeating: the share of the strings of digits that have few different ones (`digit_words`).
    """

    rng: Rng
    espeak: Espeak | None  # None: clips have labels and questions but no sound
    held_out: bool
    layout: Layout = Layout()
    natural: NaturalSpeech | None = None
    repeating: float = 0.0

    def by_nature(self, kind: str) -> tuple[str, Pcm] | None:
        """Draw a text and a clip in a natural voice, or None: the scene then asks eSpeak to say a text."""
        if not (self.natural and self.espeak) or self.rng.random() > NATURAL_SHARE:
            return None
        text, pcm = self.natural.draw(self.rng, kind)
        return text, another_throat(self.rng, pcm) if self.rng.random() < 0.5 else pcm

    def heard(self, make: Callable[[], Pcm]) -> Pcm:
        """Synthesise with `make`, or return a moment of silence when no sound is recorded."""
        return make() if self.espeak else _silence(0.1)

    def speaker(self, pace: str = "normally") -> Callable[[str], Pcm]:
        """Draw a voice and return the function that speaks with it."""
        return Speaker(self.rng, self.espeak, self.held_out, pace).say if self.espeak else _mute

    def record(self, scene: str, loudness: str | None = None) -> Clip:
        """Record one of SCENES with background noise, at the given loudness or a random one."""
        return self.finished(SCENES[scene](self), loudness)

    def arranged(self, pieces: Sequence[Pcm]) -> Pcm:
        """Join the pieces with silence before, between and after; the last silence is cut to fit `longest_s`."""
        rng, layout = self.rng, self.layout
        parts = [_silence(rng.uniform(*layout.before_s))]
        if self.natural and rng.random() < 0.2:
            parts = []  # begins with the first sample
        elif self.natural and rng.random() < 0.2:
            parts = [_silence(rng.uniform(0, 2))]  # as a microphone that was switched on early
        for i, piece in enumerate(pieces):
            if i:
                parts.append(_silence(rng.uniform(*layout.between_s)))
            parts.append(piece)
        room = layout.longest_s - sum(map(len, parts)) / SAMPLE_RATE
        parts.append(_silence(min(rng.uniform(*layout.after_s), max(room, 0.1))))
        return np.concatenate(parts)

    def finished(self, clip: Clip, loudness: str | None = None) -> Clip:
        """Scale the clip to its loudness (None: a random one) and often add some hiss."""
        rng = self.rng
        loudness = loudness or str(rng.choice([*PEAKS], p=[0.4, 0.4, 0.2]))
        peak = rng.uniform(*PEAKS[loudness])
        pcm = clip.pcm
        if self.natural and self.espeak and clip.kind != "silence" and rng.random() < DISTURBED[clip.kind]:
            pcm = disturbed(rng, pcm)
        pcm = pcm * np.float32(peak)
        if self.espeak and rng.random() < 0.6:
            hiss = noise(rng, len(pcm), tilt=rng.uniform(0, 0.8))
            pcm += hiss * np.float32(peak * 10 ** rng.uniform(-3, -1.6))
        asked = clip.questions
        if clip.kind == "sound" and loudness != "medium":
            asked += (Question("loudness", f"The sound is {loudness}."),) * 3
        # The loudness label comes first and so marks where one clip ends and the next begins.
        labels = clip.labels if clip.kind == "silence" else (loudness, *clip.labels)
        return replace(
            clip, pcm=pcm, questions=asked, labels=labels, traits=clip.traits | {"loudness": loudness}
        )


def _silence(seconds: float) -> Pcm:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _mute(text: str) -> Pcm:
    return _silence(0.1)


def _spoken(
    studio: Studio,
    text: str,
    extra: Sequence[Question] = (),
    pace: str = "normally",
    spoken: Pcm | None = None,
) -> Clip:
    """Speak the text at once or, when the layout has long gaps, sometimes word by word.

    spoken: the text as a natural voice said it, if one did.
    """
    words, labels = text.split(), tuple(text.split())
    word_by_word = False
    if spoken is not None:
        pcm = studio.arranged([spoken])
    else:
        say = studio.speaker(pace)
        word_by_word = studio.layout.between_s[1] > 1 and len(words) > 1 and studio.rng.random() < 0.5
        pcm = studio.arranged([say(word) for word in words] if word_by_word else [say(text)])
    other = _any_sound(studio)
    questions = [
        *[Question("transcribe", transcript(text))] * 3,
        Question("hear", f'I hear a voice that says "{text}".'),
        Question("kind", "This is speech."),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
        Question("beeps", "There are no beeps."),
        *extra,
    ]
    if len(words) > 1:
        questions += [
            Question("first_word", f"The first word is {words[0]}."),
            Question("last_word", f"The last word is {words[-1]}."),
        ]
    if len(words) <= 6:
        plural = "word is" if len(words) == 1 else "words are"
        questions.append(Question("word_count", f"{NUMBERS[len(words)].capitalize()} {plural} spoken."))
    if pace != "normally" and not word_by_word:
        questions += [Question("pace", f"The speaker talks {pace}.")] * 2
        labels += (pace,)
    heard = f'a voice that says "{text}"'
    return Clip(pcm, "speech", heard, transcript(text), labels, tuple(questions), {"text": text})


def _any_sound(studio: Studio) -> str:
    return str(studio.rng.choice([*SOUNDS]))


def _pace(studio: Studio) -> str:
    return str(studio.rng.choice(["normally", "slowly", "fast"], p=[0.6, 0.2, 0.2]))


def digit_words(rng: Rng, count: int, repeating: float = 0.0) -> str:
    """Draw a string of digits; in a share `repeating` of them at most three different ones.

    In a random string few digits come twice, and looking for what followed the last digit reads most of it. Only
    repeated digits teach to count.
    """
    if not repeating or rng.random() > repeating:
        return " ".join(rng.choice(DIGITS, count))
    few = rng.choice(DIGITS, int(rng.integers(1, 4)), replace=False)
    return " ".join(rng.choice(few, count))


def _digits_by_nature(studio: Studio, count: int) -> tuple[str, Pcm] | None:
    """Draw a string of natural digits, or two shorter ones and join them: few were spoken, many can be joined."""
    rng, natural = studio.rng, studio.natural
    if natural is None:
        return None
    joined = count > 1 and rng.random() < JOINED_SHARE
    head = int(rng.integers(1, count)) if joined else count
    found = studio.by_nature(_digits_kind(head))
    if found is None:
        return None
    while not studio.repeating and _repeats(found[0]) and rng.random() > FEWER_REPEATS:
        found = natural.draw(rng, _digits_kind(head))
    if head == count:
        return found
    rest, pcm = natural.draw(rng, _digits_kind(count - head))
    return f"{found[0]} {rest}", np.concatenate([found[1], _silence(rng.uniform(0.02, 0.4)), pcm])


def _repeats(text: str) -> bool:
    """Whether a word stands twice side by side."""
    words = text.split()
    return any(one == other for one, other in pairwise(words))


def _digits_kind(count: int) -> str:
    return f"{count} digits" if count > 1 else "1 digit"


def digit_string(studio: Studio, count: int) -> Clip:
    natural = _digits_by_nature(studio, count) if count <= MOST_NATURAL_DIGITS else None
    if natural:
        return _spoken(studio, natural[0], spoken=natural[1])
    text = digit_words(studio.rng, count, studio.repeating)
    return _spoken(studio, text, pace=_pace(studio) if count > 2 else "normally")


def digits(studio: Studio) -> Clip:
    return digit_string(
        studio, int(studio.rng.choice([1, 2, 3, 4, 5, 6], p=[0.15, 0.15, 0.2, 0.3, 0.1, 0.1]))
    )


def digit(studio: Studio) -> Clip:
    clip = digit_string(studio, 1)
    return replace(clip, traits={"number": DIGITS.index(str(clip.traits["text"]))})


def recital(studio: Studio) -> Clip:
    """Speak two to seven digits."""
    return digit_string(studio, int(studio.rng.integers(2, 8)))


def command(studio: Studio) -> Clip:
    text, spoken = studio.by_nature("command") or (str(studio.rng.choice(COMMANDS)), None)
    return _spoken(studio, text, spoken=spoken)


def household_phrase(rng: Rng) -> str:
    """Draw a short command for a household assistant."""
    pick = int(rng.integers(4))
    room = str(rng.choice(ROOMS))
    if pick == 0:
        thing = str(rng.choice(SWITCHED))
        return f"turn {rng.choice(['on', 'off'])} the {thing} in the {room}"
    if pick == 1:
        thing = str(rng.choice(MOVED))
        return f"{rng.choice(['open', 'close'])} the {thing} in the {room}"
    if pick == 2:
        return f"set a timer for {rng.choice(DIGITS[2:])} minutes"
    return f"call {rng.choice(NAMES)} {rng.choice(['now', 'tomorrow'])}"


def phrase(studio: Studio) -> Clip:
    """Speak a short command for a household assistant."""
    natural = studio.by_nature("phrase")
    text, spoken = natural or (household_phrase(studio.rng), None)
    thing = next((word for word in text.split() if word in SWITCHED + MOVED), "")
    room = text.split()[-1]
    asked = [Question("room", f"The room is the {room}."), Question("object", f"The object is the {thing}.")]
    pace = "normally" if natural else _pace(studio)
    return _spoken(studio, text, asked if thing else (), pace, spoken)


def spoken_question(studio: Studio) -> Clip:
    """Speak a question; when the clip comes without text, the right answer is the answer to it."""
    natural = studio.by_nature("spoken_question")
    text, spoken = natural or (str(studio.rng.choice([*GENERAL_KNOWLEDGE])), None)
    return replace(_spoken(studio, text, spoken=spoken), unasked=GENERAL_KNOWLEDGE[text])


def unknown_speech(studio: Studio) -> Clip:
    """Speak what af3-tiny was not taught, or play speech backwards, which nobody understands."""
    rng = studio.rng
    natural = studio.by_nature("unknown")
    text, spoken = natural or (said(rng, studio.held_out), None)
    spoken = studio.speaker()(text) if spoken is None else spoken
    labels = words_heard(text)
    if rng.random() < 0.12:
        spoken, labels = spoken[::-1].copy(), (UNKNOWN_WORDS,)
    other = _any_sound(studio)
    heard = "a voice that I do not understand"
    questions = (
        *[Question(key, HONEST) for key in ("transcribe", "transcribe", "first_word", "last_word")],
        Question("hear", f"I hear {heard}."),
        Question("kind", "This is speech."),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
        Question("beeps", "There are no beeps."),
    )
    return Clip(studio.arranged([spoken]), "speech", heard, HONEST, labels, questions, {})


def words_heard(text: str) -> tuple[str, ...]:
    """Label each word; unknown words side by side get one label together."""
    labels: list[str] = []
    for word in text.split():
        label = word if word in _KNOWN else UNKNOWN_WORDS
        if label != UNKNOWN_WORDS or labels[-1:] != [label]:
            labels.append(label)
    return tuple(labels)


def hiss(studio: Studio) -> Clip:
    """Play noise of some colour and nothing else."""
    rng = studio.rng
    samples = int(rng.uniform(0.5, 3) * SAMPLE_RATE)
    pcm = studio.arranged([studio.heard(lambda: noise(rng, samples, tilt=rng.uniform(0, 1)))])
    other = _any_sound(studio)
    questions = (
        *[Question("hear", NOISE_HEARD)] * 2,
        Question("kind", "This is a sound."),
        Question("transcribe", "There is no speech in the audio."),
        Question("beeps", "There are no beeps."),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
    )
    return Clip(pcm, "noise", "noise", NOISE_HEARD, (NOISE,), questions, {})


def _heard_in_order(names: Sequence[str]) -> str:
    return ", then ".join(named(name) for name in names)


def _contains(studio: Studio, names: Sequence[str]) -> list[Question]:
    other = str(studio.rng.choice([name for name in SOUNDS if name not in names]))
    present = str(studio.rng.choice(names))
    return [
        Question("contains", f"Yes, there is {named(present)}.", {"thing": named(present)}),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
    ]


def _sounds(studio: Studio, count: int) -> Clip:
    rng = studio.rng
    names = [str(name) for name in rng.choice([*SOUNDS], count, replace=False)]
    pcm = studio.arranged([studio.heard(lambda name=name: sound(rng, name)) for name in names])
    heard = _heard_in_order(names)
    questions = [
        Question("hear", f"I hear {heard}."),
        Question("hear", f"I hear {heard}."),
        Question("kind", "This is a sound." if count == 1 else "These are sounds."),
        Question("transcribe", "There is no speech in the audio."),
        Question("beeps", "There are no beeps."),
        *_contains(studio, names),
    ]
    if count > 1:
        questions += [
            Question("first_sound", f"The first sound is {named(names[0])}."),
            Question("last_sound", f"The last sound is {named(names[-1])}."),
        ] * 2
    return Clip(pcm, "sound", heard, f"I hear {heard}.", tuple(names), tuple(questions), {"sound": heard})


def one_sound(studio: Studio) -> Clip:
    return _sounds(studio, 1)


def sounds(studio: Studio) -> Clip:
    return _sounds(studio, int(studio.rng.integers(2, 4)))


def beeps(studio: Studio) -> Clip:
    rng = studio.rng
    count = int(rng.integers(1, 6))
    hz = rng.uniform(700, 1500)
    pcm = studio.arranged([studio.heard(lambda: beep(rng, hz)) for _ in range(count)])
    heard = BEEP_COUNTS[count]
    verb, other = "is" if count == 1 else "are", _any_sound(studio)
    questions = [
        *[Question("beeps", f"There {verb} {heard}.")] * 4,
        Question("hear", f"I hear {heard}."),
        Question("transcribe", "There is no speech in the audio."),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
    ]
    return Clip(pcm, "sound", heard, f"I hear {heard}.", ("beep",) * count, tuple(questions), {})


def silence(studio: Studio) -> Clip:
    seconds = studio.rng.uniform(0.3, 3) + studio.rng.uniform(*studio.layout.before_s)
    hiss = studio.heard(lambda: noise(studio.rng, int(seconds * SAMPLE_RATE)))
    pcm = hiss * np.float32(1e-3 * studio.rng.random() ** 3)
    if studio.rng.random() < 0.5:
        pcm *= 0
    other = _any_sound(studio)
    questions = (
        Question("hear", "I hear nothing, the audio is silent."),
        Question("kind", "This is silence."),
        Question("transcribe", "There is no speech in the audio."),
        Question("beeps", "There are no beeps."),
        Question("contains", f"No, there is no {other}.", {"thing": named(other)}),
    )
    return Clip(
        pcm, "silence", "nothing", "I hear nothing, the audio is silent.", ("silence",), questions, {}
    )


def _register_label(midi: int) -> str:
    """Label a note with its third of an octave: "which is higher" alone does not teach the encoder pitch, and the mel
    bands of low notes cannot separate semitones."""
    return f"register {midi // 4}"


def _tempo_label(tempo: int) -> str:
    return f"tempo {tempo}"


def one_note(studio: Studio) -> Clip:
    rng = studio.rng
    instrument = str(rng.choice([*INSTRUMENTS]))
    midi = int(rng.integers(LOWEST_MIDI, 82))
    pcm = studio.arranged([studio.heard(lambda: note(rng, instrument, midi, rng.uniform(0.3, 0.9)))])
    heard = f"{named(instrument)} playing one note"
    questions = (
        Question("instrument", f"It is {named(instrument)}."),
        Question("instrument", f"It is {named(instrument)}."),
        Question("hear", f"I hear {heard}."),
        Question("kind", "This is music."),
        Question("transcribe", "There is no speech in the audio."),
        Question("beeps", "There are no beeps."),
    )
    labels, traits = (instrument, _register_label(midi)), {"midi": midi}
    return Clip(pcm, "music", heard, f"I hear {heard}.", labels, questions, traits)


def melody(studio: Studio) -> Clip:
    """Play a scale or an arpeggio, up or down, one note per beat."""
    rng = studio.rng
    instrument, tempo = str(rng.choice([*INSTRUMENTS])), int(rng.choice(TEMPOS))
    mode, direction = str(rng.choice(["major", "minor"])), str(rng.choice(["rising", "falling"]))
    steps = list((SCALES if rng.random() < 0.7 else ARPEGGIOS)[mode])
    if direction == "falling":
        steps.reverse()
    tonic, beat_s = int(rng.integers(LOWEST_MIDI, HIGHEST_MIDI - 11)), 60 / (tempo * rng.uniform(0.97, 1.03))
    held_s = beat_s * rng.uniform(0.75, 1.0)

    def played() -> Pcm:
        line = np.zeros(int((beat_s * (len(steps) - 1) + held_s) * SAMPLE_RATE) + 1, np.float32)
        for i, step in enumerate(steps):
            one = note(rng, instrument, tonic + step, held_s) * np.float32(rng.uniform(0.8, 1))
            start = int(i * beat_s * SAMPLE_RATE)
            line[start : start + len(one)] += one[: len(line) - start]
        return normalised(line)

    heard = f"{named(instrument)} playing a {direction} melody"
    questions = (
        *[Question("instrument", f"It is {named(instrument)}.")] * 2,
        *[Question("direction", f"The melody is {direction}.")] * 2,
        *[Question("tempo", f"The tempo is {tempo} beats per minute.")] * 2,
        Question("mode", HONEST),
        Question("hear", f"I hear {heard}."),
        Question("kind", "This is music."),
        Question("transcribe", "There is no speech in the audio."),
    )
    registers = [_register_label(tonic + step) for step in steps]
    labels = (instrument, *registers, direction, mode, _tempo_label(tempo))
    pcm = studio.arranged([studio.heard(played)])
    return Clip(pcm, "music", heard, f"I hear {heard}.", labels, questions, {})


def sound_then_words(studio: Studio) -> Clip:
    """Combine a sound and one to three spoken digits, in either order."""
    rng = studio.rng
    name, count = _any_sound(studio), int(rng.integers(1, 4))
    text, spoken = _digits_by_nature(studio, count) or (digit_words(rng, count, studio.repeating), None)
    spoken = studio.speaker()(text) if spoken is None else spoken
    voice = f'a voice that says "{text}"'
    sounding = studio.heard(lambda: sound(rng, name))
    pieces, phrases, labels = [sounding, spoken], [named(name), voice], [name, *text.split()]
    if rng.random() < 0.5:
        pieces, phrases, labels = pieces[::-1], phrases[::-1], [*text.split(), name]
    heard = ", then ".join(phrases)
    questions = (
        *[Question("hear", f"I hear {heard}.")] * 2,
        Question("transcribe", transcript(text)),
        *_contains(studio, [name]),
    )
    return Clip(studio.arranged(pieces), "mixed", heard, f"I hear {heard}.", tuple(labels), questions, {})


SCENES: dict[str, Callable[[Studio], Clip]] = {
    "digits": digits,
    "digit": digit,
    "recital": recital,
    "command": command,
    "phrase": phrase,
    "spoken_question": spoken_question,
    "one_sound": one_sound,
    "sounds": sounds,
    "beeps": beeps,
    "silence": silence,
    "one_note": one_note,
    "melody": melody,
    "sound_then_words": sound_then_words,
    "unknown_speech": unknown_speech,
    "hiss": hiss,
}

# Every word in clips and answers; the tokenizer is trained on them.
WORDS = sorted(
    {*DIGITS, *COMMANDS, *ROOMS, *SWITCHED, *MOVED, *NAMES, *SOUNDS, *INSTRUMENTS, "beep", "note"}
    | {"rising", "falling", "major", "minor"}
    | set("turn on off the in set a timer for minutes call now tomorrow open close".split())
    | {word for question in GENERAL_KNOWLEDGE for word in question.split()}
)
_KNOWN = {*WORDS}
UNKNOWN_WORDS, NOISE = "unknown words", "noise"
# The labels that the encoder learns with CTC: words, sounds, instruments, loudness, pitch, direction, mode, tempo.
LABELS = [
    *WORDS,
    *PEAKS,
    *(pace for pace in PACES if pace != "normally"),
    "silence",
    *[_tempo_label(tempo) for tempo in TEMPOS],
    *[_register_label(midi) for midi in range(LOWEST_MIDI, HIGHEST_MIDI + 1, 4)],
    UNKNOWN_WORDS,
    NOISE,
]
