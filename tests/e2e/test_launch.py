"""`serving.host.launch` as an operator starts it: journal, traces, a Triton closed to others, a dying step, SIGTERM.

`python -m tests.faults` breaks it in many more ways.
"""

import json
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tritonclient import grpc as tritonclient

from clients import AudioFlamingo
from tests import faults
from tests.support.clips import clip

QUESTION = "Is this a secret?"


class Collector:
    """A stand-in for an OpenTelemetry collector: keeps what is posted to it."""

    def __init__(self) -> None:
        self.posted: list[bytes] = []
        kept = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kept.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.serving_folder(tmp_path_factory.mktemp("launched"))


@pytest.fixture(scope="module")
def launched(folder: Path, collector: Collector) -> Iterator[faults.Launched]:
    server = faults.Launched(folder, "--journal", str(folder / "journal"), "--trace-url", collector.url)
    yield server
    server.stop()


def ask(server: faults.Launched, request_id: str) -> str:
    with AudioFlamingo(server.url) as flamingo:
        return flamingo.ask(clip(0.5), QUESTION, max_tokens=6, request_id=request_id).text()


def test_the_journal_has_one_line_per_stage_of_a_request_and_nothing_of_its_content(
    launched: faults.Launched, folder: Path
) -> None:
    text = ask(launched, "noted")
    journal = folder / "journal"

    def lines() -> list[dict[str, object]]:
        """The steps know a request by the door's id; its own line has the client's beside it."""
        found = [json.loads(line) for line in journal.read_text().splitlines()]
        ids = {line["id"] for line in found if line.get("client_id") == "noted"}
        return [line for line in found if line["id"] in ids]

    launched.until(lambda: len(lines()) == 4, "four lines")
    assert {line.get("stage", line["event"]) for line in lines()} == {
        "preprocess",
        "audio_encoder",
        "llm",
        "request",
    }
    assert all(line["status"] == "OK" and float(str(line["ms"])) >= 0 for line in lines())
    for written in (journal, folder / "log", launched.output):
        content = written.read_text(errors="replace")
        assert QUESTION not in content
        assert text not in content


def test_traces_of_every_stage_reach_the_collector(launched: faults.Launched, collector: Collector) -> None:
    ask(launched, "traced")

    def names() -> set[bytes]:
        return {name for body in collector.posted for name in re.findall(rb"[a-z_]{3,}", body)}

    wanted = {b"audio_flamingo", b"preprocess", b"audio_encoder", b"llm", b"postprocess"}
    launched.until(lambda: wanted <= names(), "traces")


def test_the_triton_behind_the_door_answers_nobody_without_the_key(
    launched: faults.Launched, folder: Path
) -> None:
    (address,) = re.findall(
        r"Started GRPCInferenceService at (\S+)", (folder / "log").read_text().replace('"', "")
    )
    with tritonclient.InferenceServerClient(address) as client:
        for call in (client.is_server_ready, client.get_server_metadata, client.get_inference_statistics):
            with pytest.raises(tritonclient.InferenceServerException, match="restricted"):
                call()


def test_a_dead_step_comes_back_and_sigterm_ends_all_in_order(launched: faults.Launched) -> None:
    outcome = faults.hit(launched, "kill", lambda: faults.strike(launched, "llm", signal.SIGKILL))
    assert set(outcome.seen) - {"answered"} <= {
        "UNAVAILABLE: a part of the server failed and is being restarted",
        "UNAVAILABLE: the server is starting",
    }
    held = launched.shared_memory()
    with faults.load(launched.url) as running:
        launched.until(lambda: running.seen["answered"] >= faults.CLIENTS, "answering")
        code, _ = launched.stop()
        running.stopping.set()
    assert code == 0
    assert held
    assert not [name for name in held if (faults.SHARED_MEMORY / name).exists()]
    assert not any(status.startswith(("UNKNOWN", "INTERNAL", "DATA_LOSS")) for status in running.seen)


def test_a_launcher_that_does_not_get_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is also ended when Ctrl-C comes meanwhile; servers that nobody knew of were left behind."""
    asleep = tmp_path / "asleep.py"
    asleep.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(faults, "BOUND_S", 3.0)
    with pytest.raises(AssertionError, match="not ready within 3 s"):
        faults.Launched(tmp_path, prefix=("env", f"PYTHONPATH={tmp_path}"), module="asleep")
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
