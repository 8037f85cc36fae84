"""Two programs of others that judge the voice, in an environment of their own: `python other_programs.py TASK < JSON`.

`speak`: kokoro-onnx, the reference implementation, on the published graph. `listen`: CMU's pocketsphinx, a recogniser
that knows nothing of us. Imports nothing of this repository.
"""

import json
import sys
from pathlib import Path


def speak(task: dict) -> None:
    """`graph`, `vocabulary`, `styles` (npz), `spoken`: [{phonemes, voice, speed}] → `out` (npz), a waveform each."""
    import numpy as np
    from kokoro_onnx import Kokoro

    kokoro = Kokoro(task["graph"], task["styles"], vocab_config={"vocab": task["vocabulary"]})
    waveforms = {}
    for number, one in enumerate(task["spoken"]):
        samples, hz = kokoro.create(one["phonemes"], one["voice"], one["speed"], is_phonemes=True, trim=False)
        assert hz == 24000
        waveforms[str(number)] = samples
    np.savez(task["out"], **waveforms)


def listen(task: dict) -> None:
    """`clips`: names of files with raw 16-bit mono at 16 kHz → a JSON list of what was heard."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16000, loglevel="FATAL")
    heard = []
    for clip in task["clips"]:
        decoder.start_utt()
        decoder.process_raw(Path(clip).read_bytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        heard.append("" if found is None else found.hypstr)
    print(json.dumps(heard))


if __name__ == "__main__":
    {"speak": speak, "listen": listen}[sys.argv[1]](json.load(sys.stdin))
