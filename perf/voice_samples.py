"""Makes the samples of docs/speech.md: `python -m perf.voice_samples`, after `make engines VOICE=kokoro`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from af3.speech.built_voice import VOICE_FOLDER
from af3.speech.engines.kokoro import KokoroSynthesizer
from af3.speech.pcm import shape

SAID = "I can hear a siren, and a dog."
VOICES = ("af_heart", "am_michael", "bf_emma", "bm_george", "af_heart:0.5+am_michael:0.5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"))
    parser.add_argument("--out", type=Path, default=Path("docs/voices"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    voices = KokoroSynthesizer.load(arguments.engines / VOICE_FOLDER, threads=2)
    for name in VOICES:
        voice = voices.voice(name, 1.0)
        pcm = np.concatenate(list(shape(voice.speak(voice.speakable(SAID)), voice.sample_rate, 0.0)))
        path = arguments.out / f"{'mixed' if '+' in name else name}.flac"
        soundfile.write(path, pcm, voice.sample_rate)
        print(f"{path}: {len(pcm) / voice.sample_rate:.1f} s, {path.stat().st_size} bytes")
    voices.close()


if __name__ == "__main__":
    main()
