"""A step dies under load, the server is told to go under load. `python -m tests.faults` does many more."""

import signal
from pathlib import Path

from tests import faults


def test_a_killed_llm_comes_back_and_sigterm_ends_all_in_order(tmp_path: Path) -> None:
    server = faults.Launched(faults.serving_folder(tmp_path))
    try:
        outcome = faults.hit(server, "kill", lambda: faults.strike(server, "llm", signal.SIGKILL))
        assert set(outcome.seen) - {"answered"} <= {
            "UNAVAILABLE: a part of the server failed and is being restarted",
            "UNAVAILABLE: the server is starting",
        }
        held = server.shared_memory()
        with faults.load(server.url) as running:
            server.until(lambda: running.seen["answered"] >= faults.CLIENTS, "answering")
            code, _ = server.stop()
            running.stopping.set()
        assert code == 0
        assert held
        assert not [name for name in held if (faults.SHARED_MEMORY / name).exists()]
        assert not any(status.startswith(("UNKNOWN", "INTERNAL", "DATA_LOSS")) for status in running.seen)
    finally:
        server.stop()
