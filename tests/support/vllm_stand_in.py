"""Speaks what `af3.llm.vllm_worker` speaks, without vLLM: counts up from the number of ids it was given.

Questions are told by their first id: 1 is refused, 2 is silent, 3 ends the process, all others are answered.
"""

import os
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection

from af3.llm.stop_words import StopWords
from af3.llm.vllm_wire import EngineSettings, Message, receive, send

connection = Connection(int(sys.argv[1]))
settings = EngineSettings.from_json(sys.argv[2])
lock = threading.Lock()
stopped: set[str] = set()


def say(**message: object) -> None:
    with lock:
        send(connection, message)


def answer(wanted: Message) -> None:
    words = StopWords(wanted["end_id"], [tuple(word) for word in wanted["stop_words"]])
    start = len(wanted["ids"])
    for token in range(start, start + wanted["max_new_tokens"]):
        if wanted["id"] in stopped:
            return
        ids, ended = words.accept([token])
        final = ended or token == start + wanted["max_new_tokens"] - 1
        say(kind="tokens", id=wanted["id"], ids=ids, final=final)
        if final:
            return
        time.sleep(0.002)


def main() -> None:
    if settings.model.endswith("broken"):
        sys.exit(3)
    subprocess.Popen(["sleep", "600"])  # as vLLM's own processes, it does not notice when this one dies
    say(kind="ready")
    while True:
        try:
            wanted, table = receive(connection)
        except (EOFError, OSError):
            return
        if wanted["kind"] == "stop":
            stopped.add(wanted["id"])
            continue
        assert (table is None) == ("shape" not in wanted)
        match wanted["ids"][0]:
            case 1:
                say(kind="failed", id=wanted["id"], refused=True, why="not this one")
            case 2:
                pass
            case 3:
                os._exit(1)
            case _:
                totals = {"prompt_tokens": 10, "cached_tokens": 4, "preemptions": 1, "generated_tokens": 7}
                say(kind="stats", kv_use=0.5, **totals)
                threading.Thread(target=answer, args=[wanted], daemon=True).start()


main()
