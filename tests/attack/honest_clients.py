"""The process of the honest clients: told whom to ask on the first line of stdin, they ask until it is closed."""

from __future__ import annotations

import json
import sys
import threading
import time

from tests.attack.scene import HONESTS, Address, at_once, generate


def main() -> None:
    host, port, key, expected = json.loads(sys.stdin.readline())
    times_s: list[float] = []
    errors: list[str] = []
    stopping = threading.Event()

    def ask(number: int) -> None:
        while not stopping.is_set():
            began = time.monotonic()
            code, said = generate(Address(host, port), source=HONESTS[number], key=key)
            times_s.append(time.monotonic() - began)
            if code != 200:
                errors.append(f"{code} {said}")
            elif expected and said != expected:
                errors.append(f"wrong: {said!r}")

    def wait() -> None:
        sys.stdin.read()
        stopping.set()

    print("asking", flush=True)
    threading.Thread(target=wait).start()
    at_once(len(HONESTS), ask)
    print(json.dumps([times_s, errors]), flush=True)


if __name__ == "__main__":
    main()
