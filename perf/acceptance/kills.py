"""Kills the processes of a running server one by one under load; reports what clients saw and for how long."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.client import AudioFlamingo
from clients.errors import AudioFlamingoError
from perf import observe
from perf.acceptance.compare_answers import MOST_TOKENS, SAMPLES
from perf.place import Place, served
from serving.host.probe import answers

VICTIMS = ("audio_encoder", "preprocess", observe.TRITON)
ENDED_S = 120.0  # by then every question must have ended after a kill
BACK_S = 900.0  # by then the server must answer again; it reloads its engines
CLIENTS = 4


def kill(place: Place, victim: str, alive: Callable[[str], bool] = answers) -> dict[str, Any]:
    """Send SIGKILL to one process while CLIENTS ask.

    Raises AssertionError when a question hangs or the server does not come back.
    """
    assert place.pid is not None
    victims = [pid for pid, name in observe.processes(place.pid).items() if name == victim]
    if not victims:
        return {"victim": victim, "left out": "no such process here"}
    said: list[str] = []
    askers = [threading.Thread(target=_ask, args=(place.url, said), daemon=True) for _ in range(CLIENTS)]
    for asker in askers:
        asker.start()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    for asker in askers:
        asker.join(max(0.0, killed_s + ENDED_S - time.monotonic()))
        assert not asker.is_alive(), f"{victim}: a question still waits {ENDED_S:.0f} s after the kill"
    ended_s = time.monotonic() - killed_s
    while not alive(place.url):
        assert time.monotonic() - killed_s < BACK_S, f"{victim}: no answer {BACK_S:.0f} s after the kill"
        time.sleep(0.5)
    return {
        "victim": victim,
        "questions ended after s": round(ended_s, 1),
        "answered again after s": round(time.monotonic() - killed_s, 1),
        "clients saw": sorted(said),
    }


def _ask(url: str, said: list[str]) -> None:
    try:
        with AudioFlamingo(url) as server:
            text = server.ask(
                SAMPLES / "melody.wav",
                "Describe this audio in detail.",
                max_tokens=MOST_TOKENS,
                timeout_s=ENDED_S,
            ).text()
        said.append(f"an answer of {len(text)} characters")
    except AudioFlamingoError as error:
        said.append(str(error)[:120])


def report(place: Place, victims: Sequence[str] = VICTIMS) -> list[Mapping[str, Any]]:
    """Kill each victim in turn and report one entry for each, with what went wrong."""
    found: list[Mapping[str, Any]] = []
    for victim in victims:
        try:
            found.append(kill(place, victim))
        except AssertionError as error:
            found.append({"victim": victim, "failed": str(error)})
            break  # the server may be dead
    return found


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.acceptance.kills", description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="folder with engines/TARGET")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(given)
    with served(arguments.target, arguments.folder) as place:
        found = report(place)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    failed = any("failed" in entry for entry in found)
    return 1 if failed or not any("clients saw" in entry for entry in found) else 0


if __name__ == "__main__":
    sys.exit(main())
