"""CMU's pocketsphinx in an environment of its own: `python recogniser.py < JSON`. Imports nothing of this repository.

Takes `{"choices": [[text]], "clips": [file of raw 16-bit mono at 16 kHz]}` and prints a JSON list: what it heard in
each clip, "" for nothing. What is heard is one text of each choice, one after the other.
"""

import array
import json
import random
import sys
import tempfile
from pathlib import Path

from pocketsphinx import Decoder

AROUND = 1600  # samples of silence before and after; it has some noise, digital zeros have no logarithm


def grammar(decoder: Decoder, choices: list[list[str]]) -> str:
    """Write JSGF. A text with a word that the dictionary lacks cannot be heard and is left out."""
    groups = []
    for texts in choices:
        known = [text for text in texts if all(decoder.lookup_word(word) for word in text.split())]
        groups.append(f"({' | '.join(known)})")
    return f"#JSGF V1.0;\ngrammar world;\npublic <said> = {' '.join(groups)};\n"


def main() -> None:
    task = json.load(sys.stdin)
    decoder = Decoder(samprate=16000, loglevel="FATAL", cmn="batch")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.jsgf"
        path.write_text(grammar(decoder, task["choices"]))
        decoder.add_jsgf_file("world", str(path))
    decoder.activate_search("world")
    floor = random.Random(0)
    quiet = array.array("h", (floor.randint(-8, 8) for _ in range(AROUND))).tobytes()
    heard = []
    for clip in task["clips"]:
        decoder.start_utt()
        decoder.process_raw(quiet + Path(clip).read_bytes() + quiet, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        heard.append("" if found is None else found.hypstr)
    print(json.dumps(heard))


if __name__ == "__main__":
    main()
