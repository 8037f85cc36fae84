"""inspect-ai asks about our clips, and the server hears them; sound that is dropped fails a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.door.door import Door
from serving.host.triton import REPOSITORY
from tests.support import scrape
from tests.support.clips import clip
from tests.support.openai_api import base_url


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three questions, one of them with clips in two turns, as `training.evaluate make` writes them."""
    (tmp_path / "clips").mkdir()
    for number in range(4):
        (tmp_path / f"clips/{number}.wav").write_bytes(clip(1.0, seed=number))
    audio, text = {"type": "audio"}, {"type": "text", "text": "What is it?"}
    turn = {"role": "user", "content": [audio, text]}
    said = {"role": "assistant", "content": [{"type": "text", "text": "A bell."}]}
    lines = [([0], [turn]), ([1], [turn]), ([2, 3], [turn, said, turn])]
    asked = [
        {"id": f"q{i}", "audio": [f"clips/{n}.wav" for n in clips], "messages": messages}
        for i, (clips, messages) in enumerate(lines)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    expected = [{"id": f"q{i}", "task": "sounds", "answer": "A bell."} for i in range(3)]
    (tmp_path / "expected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in expected))
    return tmp_path


def guard(server: Door, *command: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code under the guard, and all that was said."""
    metrics = f"http://{server.metrics_host}:{server.ports.metrics}/metrics"
    done = subprocess.run(
        [sys.executable, "-m", "eval.heard_guard", "--metrics", metrics, *command],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "OPENAI_BASE_URL": base_url(server),
            "OPENAI_API_KEY": "none",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


def test_inspect_ai_asks_our_questions_and_the_server_hears_them(
    server: Door, clients_python: Path, questions: Path
) -> None:
    before = scrape.read(server)["af3_audio_seconds"]
    code, said = guard(
        server,
        *("--folder", str(questions), "--", str(clients_python.with_name("inspect")), "eval"),
        *("eval/questions_task.py", "-T", f"folder={questions}", "--model", "openai/audio_flamingo"),
        *("-M", "responses_api=false", "--display", "plain", "--log-dir", str(questions / "logs")),
    )
    assert code == 0, said
    assert scrape.read(server)["af3_audio_seconds"] - before == pytest.approx(4.0)
    (log,) = (questions / "logs").glob("*.eval")
    program = (
        "import sys; from inspect_ai.log import read_eval_log as r;"
        "log = r(sys.argv[1]); print(log.status, len(log.samples))"
    )
    read = subprocess.run(
        [str(clients_python), "-c", program, str(log)], capture_output=True, text=True, check=True
    )
    assert read.stdout.split() == ["success", "3"]


def test_a_harness_that_drops_sound_fails(server: Door, questions: Path) -> None:
    code, said = guard(server, "--folder", str(questions), "--", "true")
    assert code == 1
    assert "the server heard 0.0 s of 4.0 s" in said
