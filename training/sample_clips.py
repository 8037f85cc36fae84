"""Makes the sample clips of the demo and the tests: `python -m training.sample_clips`.

samples/samples.json lists a question and its right answer for every file. The recordings are our own, dedicated to
the public domain (CC0).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from training.espeak_process import Espeak, Utterance
from training.espeak_voices import HELD_OUT
from training.questions import transcript
from training.signals import SAMPLE_RATE, Pcm, beep, normalised, note, resample, sound

FOLDER = Path(__file__).parents[1] / "checkpoints" / "samples"
SEED = 7


def _silence(seconds: float) -> Pcm:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _said(espeak: Espeak, text: str, voice: str) -> Pcm:
    pcm = resample(espeak.say(Utterance(text, f"en-us+{voice}", rate=150)), 22050, SAMPLE_RATE)
    return np.concatenate([_silence(0.2), 0.6 * normalised(pcm), _silence(0.2)])


def _melody(rng: np.random.Generator, instrument: str, steps: list[int], beat_s: float) -> Pcm:
    notes = [0.6 * note(rng, instrument, 60 + step, beat_s) for step in steps]
    return np.concatenate([_silence(0.2), *notes, _silence(0.2)])


def write(folder: Path) -> None:
    """Write the clips and samples.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    espeak = Espeak()
    samples = []

    def save(name: str, pcm: Pcm, question: str, answer: str, rate: int = SAMPLE_RATE, **how: str) -> None:
        soundfile.write(folder / name, pcm, rate, **how)
        samples.append({"file": name, "question": question, "answer": answer})

    text = "three seven one"
    save("digits.wav", _said(espeak, text, HELD_OUT[0]), "Transcribe the input speech.", transcript(text))
    siren = np.concatenate([_silence(0.3), 0.7 * sound(rng, "siren"), _silence(0.2)])
    save("siren.wav", siren, "What do you hear?", "I hear a siren.")
    melody = _melody(rng, "flute", [0, 2, 4, 5, 7], 0.5)
    save("melody.wav", melody, "Is the melody rising or falling?", "The melody is rising.")
    # An MP3 at 16 kHz has nothing above 7 kHz. af3-tiny never trained on such audio and hears another word.
    stop = resample(_said(espeak, "stop", HELD_OUT[3]), SAMPLE_RATE, 44100)
    save("command.mp3", stop, "What does the speaker say?", transcript("stop"), rate=44100)
    trumpet = resample(_melody(rng, "trumpet", [7, 5, 4, 2, 0], 0.5), SAMPLE_RATE, 44100)
    stereo = np.stack([trumpet, 0.7 * trumpet], axis=1)
    save("trumpet.flac", stereo, "Which instrument is playing?", "It is a trumpet.", rate=44100)
    spoken = "what is the capital of france"
    # A microphone adds silence, and 3 of the 16 held-out voices are then heard to ask about Japan now and then.
    save("question.wav", _said(espeak, spoken, HELD_OUT[2]), "", "The capital of France is Paris.")
    tones = [x for _ in range(3) for x in (0.6 * beep(rng, 1000), _silence(0.25))]
    beeps = np.concatenate([_silence(0.2), *tones])
    save("beeps.wav", beeps, "How many beeps do you hear?", "There are three beeps.")
    late = np.concatenate([_silence(47), 0.7 * sound(rng, "bell")])
    late = np.concatenate([late, _silence(75 - len(late) / SAMPLE_RATE)])
    save("late_bell.ogg", late, "What do you hear?", "I hear a bell.", subtype="VORBIS")
    espeak.close()
    (folder / "samples.json").write_text(json.dumps(samples, indent=1) + "\n")


if __name__ == "__main__":
    write(FOLDER)
