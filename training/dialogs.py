"""Builds conversations about clips (which question about which clip in which turn) and their ChatML text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.mixes import Mix
from training.questions import GENERAL_KNOWLEDGE, NO_AUDIO, THINK, WORDINGS, Question
from training.scenes import Clip, Layout, Studio, named
from training.unknown import HONEST, paraphrased, typed

SYSTEM = "You are a helpful assistant."
ORDINALS = ("first", "second")


@dataclass(frozen=True)
class Turn:
    """The user's clips and texts in order, and the right answer. `task` names the row of the result table."""

    parts: tuple[Clip | str, ...]
    answer: str
    task: str


def content_order(parts: Sequence[Clip | str]) -> list[Clip | str]:
    """Order the parts of a message as they are rendered.

    Transformers' template puts the audio of a message before its text. It cannot express several clips, so a message
    with several keeps its order.
    """
    clips = [part for part in parts if not isinstance(part, str)]
    texts = [part for part in parts if isinstance(part, str)]
    return [*clips, *texts] if len(clips) == 1 else list(parts)


def spans(turns: Sequence[Turn]) -> list[tuple[Clip | str, bool]]:
    """Split a conversation into pieces to encode; True marks the assistant's, which are trained on."""
    pieces: list[tuple[Clip | str, bool]] = [(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n", False)]
    for turn in turns:
        pieces.append(("<|im_start|>user\n", False))
        pieces += [(part, False) for part in content_order(turn.parts)]
        pieces.append(("<|im_end|>\n<|im_start|>assistant\n", False))
        pieces.append((f"{turn.answer}<|im_end|>", True))
        pieces.append(("\n", False))
    return pieces[:-1]


def asked(rng: np.random.Generator, question: Question, held_out_wording: bool = False) -> str:
    """Word the question. A third are worded as people type: lower case, no question mark, or "Please listen."."""
    text = question.worded(rng, held_out_wording)
    style = rng.random()
    if held_out_wording or style < 0.65:
        return text
    if style < 0.8:
        return text.lower().rstrip("?.")
    if style < 0.9:
        return text.lower()
    return f"Please listen. {text}"


def thought(clips: Sequence[Clip], answer: str) -> str:
    """Build a think answer: first what is heard, then the answer."""
    return f"I hear {', and then '.join(clip.heard for clip in clips)}. {answer}"


def about_one_clip(studio: Studio, scene: str, most_turns: int = 3) -> list[Turn]:
    """Ask one to `most_turns` questions about one clip; the clip comes with the first."""
    rng = studio.rng
    clip = studio.record(scene)
    count = int(rng.integers(1, most_turns + 1))
    turns = [
        _turn(rng, clip, question) for question in rng.permutation(np.array(clip.questions, object))[:count]
    ]
    if studio.natural:
        turns = [_off_topic(rng) if rng.random() < OFF_TOPIC_SHARE else turn for turn in turns]
    alone = 0.6 if scene in ("spoken_question", "unknown_speech") else 0.06
    if rng.random() < alone:
        turns[0] = Turn((), clip.unasked, "voice" if scene == "spoken_question" else "unasked")
    first = turns[0]
    return [Turn((clip, *first.parts), first.answer, first.task), *turns[1:]]


def _turn(rng: np.random.Generator, clip: Clip, question: Question) -> Turn:
    text = asked(rng, question)
    if question.key != "hear" and rng.random() < 0.12:
        return Turn((text + THINK,), thought([clip], question.answer), f"think_{question.key}")
    return Turn((text,), question.answer, question.key)


def _off_topic(rng: np.random.Generator) -> Turn:
    """Type something that is not about the clip: what was not taught, or a question that needs no audio."""
    if rng.random() < 0.7:
        return Turn((typed(rng, held_out=False),), HONEST, "unknown")
    return _knowledge(rng, in_other_words=0.5)


def _knowledge(rng: np.random.Generator, in_other_words: float) -> Turn:
    question = str(rng.choice([*GENERAL_KNOWLEDGE]))
    if rng.random() < in_other_words:
        text = paraphrased(rng, question, held_out=False)
    else:
        text = question if rng.random() < 0.3 else f"{question.capitalize()}?"
    return Turn((text,), GENERAL_KNOWLEDGE[question], "text_only")


def pair(studio: Studio, key: str) -> tuple[Clip, Clip, Question]:
    """Record two clips and ask a question that needs both."""
    rng = studio.rng
    if key == "higher":
        a, b = _unlike(studio, "one_note", lambda a, b: abs(a.traits["midi"] - b.traits["midi"]) >= 4)
        winner = ORDINALS[int(b.traits["midi"] > a.traits["midi"])]
        return a, b, Question(key, f"The {winner} clip is higher.")
    if key == "louder":
        scene = str(rng.choice(["one_sound", "one_note", "digit"]))
        winner = int(rng.integers(2))
        a, b = (studio.record(scene, "loud" if i == winner else "quiet") for i in range(2))
        return a, b, Question(key, f"The {ORDINALS[winner]} clip is louder.")
    if key == "larger":
        a, b = _unlike(studio, "digit", lambda a, b: a.traits["number"] != b.traits["number"])
        winner = ORDINALS[int(b.traits["number"] > a.traits["number"])]
        return a, b, Question(key, f"The {winner} number is larger.")
    if key == "same":
        wanted = bool(rng.random() < 0.5)
        a, b = _unlike(studio, "one_sound", lambda a, b: (a.heard == b.heard) == wanted)
        return a, b, Question(key, "Yes, they are the same." if wanted else "No, they are different.")
    if key == "which":
        a, b = _unlike(studio, "one_sound", lambda a, b: a.heard != b.heard)
        chosen = int(rng.integers(2))
        # Both are told: to find the clip by its sound, and not the sound by its clip, stayed a guess.
        both = f"In the first clip I hear {a.heard}, in the second clip I hear {b.heard}."
        return a, b, Question(key, both, {"thing": (a, b)[chosen].heard})
    a, b = (studio.record(str(rng.choice(["digit", "one_sound", "one_note", "command"]))) for _ in range(2))
    return a, b, nth_question(rng, (a, b))


def nth_question(rng: np.random.Generator, clips: Sequence[Clip]) -> Question:
    which = int(rng.integers(2))
    answer = f"In the {ORDINALS[which]} clip I hear {clips[which].heard}."
    return Question("nth", answer, {"nth": ORDINALS[which]})


def _unlike(studio: Studio, scene: str, fits: Callable[[Clip, Clip], bool]) -> tuple[Clip, Clip]:
    """Record two clips of a scene; record the second again until `fits` holds."""
    first = studio.record(scene)
    while not fits(first, second := studio.record(scene)):
        pass
    return first, second


def about_two_clips(
    studio: Studio, key: str, in_turns: bool | None = None, held_out_wording: bool = False
) -> list[Turn]:
    """Ask about two clips, sent in one message (with or without labels) or one per turn."""
    rng = studio.rng
    a, b, question = pair(studio, key)
    text = asked(rng, question, held_out_wording)
    answer, task = question.answer, key
    if key != "which" and not held_out_wording and rng.random() < 0.1:
        text, answer, task = text + THINK, thought([a, b], answer), f"think_{key}"
    if in_turns is None:
        in_turns = bool(rng.random() < 0.4)
    if not in_turns:
        bare = (a, b, text)
        labelled = ("First clip: ", a, "Second clip: ", b, text)
        turns = [Turn(labelled if rng.random() < 0.4 else bare, answer, task)]
    else:
        q = a.questions[int(rng.integers(len(a.questions)))]
        turns = [Turn((a, asked(rng, q)), q.answer, q.key)]
        if rng.random() < 0.5:
            turns.append(Turn((b, text), answer, task))
        else:
            q = b.questions[int(rng.integers(len(b.questions)))]
            turns += [Turn((b, asked(rng, q)), q.answer, q.key), Turn((text,), answer, task)]
    if not held_out_wording and rng.random() < 0.4:
        after = nth_question(rng, (a, b))
        turns.append(Turn((asked(rng, after),), after.answer, "nth"))
    return turns


def without_audio(rng: np.random.Generator, mix: Mix) -> list[Turn]:
    """Ask without audio: general knowledge, what was not taught, or about a clip that was not sent."""
    turns = []
    for _ in range(int(rng.integers(1, 4))):
        draw = rng.random()
        if draw < mix.unknown_share:
            turns.append(Turn((typed(rng, held_out=False),), HONEST, "unknown"))
        elif draw < mix.unknown_share + 0.3 * (1 - mix.unknown_share):
            key = str(rng.choice([*WORDINGS]))
            thing = named(str(rng.choice(["bell", "siren", "engine", "clock"])))
            question = Question(key, NO_AUDIO, {"thing": thing, "nth": str(rng.choice(ORDINALS))})
            turns.append(Turn((asked(rng, question),), NO_AUDIO, "text_only"))
        else:
            turns.append(_knowledge(rng, mix.in_other_words))
    return turns


SHORT = Layout()
PADDED = Layout(before_s=(0, 11), between_s=(0.1, 1.5), after_s=(0, 4), longest_s=16)
LONG = Layout(before_s=(0, 25), between_s=(0.2, 4), after_s=(0, 30), longest_s=60)

OFF_TOPIC_SHARE = 0.08  # of the questions about one clip


def training_dialog(studio: Studio, mix: Mix, layout: Layout | None = None) -> list[Turn]:
    """Draw one conversation of a mix; with a `layout`, always about one clip in that layout."""
    rng = studio.rng
    studio.layout = layout or SHORT
    if layout is not None:
        return about_one_clip(studio, mix.scene(rng), most_turns=4)
    draw = rng.random()
    if draw < mix.text_share:
        return without_audio(rng, mix)
    if draw < mix.text_share + mix.pairs_share:
        return about_two_clips(studio, mix.pair(rng))
    return about_one_clip(studio, mix.scene(rng), most_turns=3)
