"""python -m tests.fuzz.broken_files --cases 2000     broken files of every format, for the decoder process alone

No crash that reaches this process, no answer later than after 5 s, no process left, memory bounded.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from af3.errors import RequestError
from af3.inputs.clip_decoder import ClipDecoder
from tests.fuzz.audio_files import MUTATIONS
from tests.support.written_files import FOLDER

SLOWEST_S = 5.0
MOST_MEMORY_KB = 1 << 20
GAVE_UP = "the decoder gave up"
OUTCOMES = ("read", "refused")


def broken(path: Path, number: int) -> bytes:
    """A committed file after one to three accidents; the same for the same number."""
    random = Random(f"{path.name} {number}")
    data = path.read_bytes()
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(MUTATIONS)(data, random)
    return data


def by_format() -> dict[str, list[Path]]:
    """The committed files by extension."""
    formats: dict[str, list[Path]] = {}
    for path in sorted(FOLDER.iterdir()):
        formats.setdefault(path.suffix, []).append(path)
    return formats


def run(suffix: str, cases: int) -> tuple[Counter[str], list[str]]:
    """Decode `cases` broken files; how they ended, and what was wrong."""
    paths = by_format()[suffix]
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    decoder = ClipDecoder()
    decoder.start()
    try:
        for number in range(cases):
            path = paths[number % len(paths)]
            data = broken(path, number)
            what, seconds = _decoded(decoder, data)
            if seconds > SLOWEST_S:  # of a busy machine, or of the file?
                what, seconds = _decoded(decoder, data)
            if what in OUTCOMES:
                counts[what] += 1
            else:
                wrong.append(f"{path.name} {number}: {what}")
            if seconds > SLOWEST_S:
                wrong.append(f"{path.name} {number}: {seconds:.1f} s, twice")
        peak_kb = _peak_kb(decoder)
        if peak_kb > MOST_MEMORY_KB:
            wrong.append(f"{suffix}: the decoder process took {peak_kb >> 10} MiB")
        group = decoder._worker.pid if decoder._worker else 0
    finally:
        decoder.close()
    if group and _alive(group):
        wrong.append(f"{suffix}: a process is left")
    return counts, wrong


def _decoded(decoder: ClipDecoder, data: bytes) -> tuple[str, float]:
    """One of OUTCOMES, or what was wrong; and the seconds it took."""
    began_s = time.monotonic()
    try:
        decoder.decode(data, "audio[0]")
        what = "read"
    except RequestError as error:
        what = error.message if GAVE_UP in error.message else "refused"
    except Exception as error:
        what = repr(error)
    return what, time.monotonic() - began_s


def _peak_kb(decoder: ClipDecoder) -> int:
    decoder.start()
    assert decoder._worker is not None
    status = Path(f"/proc/{decoder._worker.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2_000, help="of each format")
    parser.add_argument("--format", choices=sorted(by_format()))
    given = parser.parse_args()
    wrong: list[str] = []
    for suffix in [given.format] if given.format else sorted(by_format()):
        began_s = time.monotonic()
        counts, found = run(suffix, given.cases)
        wrong += found
        print(f"{suffix}: {dict(counts)}, {len(found)} wrong, {time.monotonic() - began_s:.0f} s", flush=True)
        print("".join(f"  {each}\n" for each in found), end="", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
