"""eSpeak NG's phonemes of a text, from the library and the data of the offline voice, in a process of its own.

The library is under the GPL, so it is never loaded into the tests: this file is the program, `phonemes` starts it.
"""

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

UTF8, IPA = 1, 2
RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: nothing is played


def phonemes(texts: Sequence[str], voice: str = "en-us") -> list[str]:
    """IPA of each text, without what depends on how words are written: stress, length, reduced vowels, boundaries."""
    wheel = find_spec("espeakng_loader")
    assert wheel is not None
    assert wheel.submodule_search_locations
    folder = Path(wheel.submodule_search_locations[0])
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, folder / "libespeak-ng.so", folder / "espeak-ng-data", voice],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [re.sub(r"[ˈˌː\s]", "", found).replace("ᵻ", "ɪ") for found in json.loads(done.stdout)]


def main(library: str, data: str, voice: str) -> None:
    """A JSON list of texts on stdin → a JSON list of their phonemes."""
    espeak = ctypes.CDLL(library)
    if espeak.espeak_Initialize(RETRIEVAL, 0, data.encode(), 0) <= 0:
        raise SystemExit(f"eSpeak NG found no data in {data}")
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SystemExit(f"eSpeak NG has no voice {voice!r}")
    espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
    espeak.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]

    def clauses(text: str) -> list[str]:
        left, found = ctypes.c_char_p(text.encode()), []
        while left.value is not None:
            found.append(espeak.espeak_TextToPhonemes(ctypes.byref(left), UTF8, IPA).decode())
        return found

    json.dump([" ".join(clauses(text)) for text in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
