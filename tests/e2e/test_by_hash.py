"""`--by-hash` of the command lines, against a live server: what they send, and that the answers stay the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving.door.door import Door
from tests.support.clips import file_bytes, sound

REPOSITORY = Path(__file__).parents[2]
QUESTION = "What is it?"


@pytest.fixture
def large(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A clip that no other test has sent."""
    path = tmp_path / "large.wav"
    path.write_bytes(file_bytes(sound(12.0, 48_000, 2, seed=sum(map(ord, request.node.name))), 48_000))
    assert path.stat().st_size > 2_000_000
    return path


def run(url: str, module: str, *words: str, typed: str = "") -> str:
    command = [sys.executable, "-m", f"clients.commands.{module}", *words, "--url", url, "--max-tokens", "8"]
    done = subprocess.run(
        command, cwd=REPOSITORY, input=typed, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def received(server: Door) -> float:
    """Bytes of all requests so far."""
    lines = server.metrics.text().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("af3_request_bytes_total"))


def test_ask_uploads_a_clip_once(url: str, server: Door, large: Path) -> None:
    before = received(server)
    plain = run(url, "ask", str(large), QUESTION)
    uploaded = received(server) - before
    assert uploaded > large.stat().st_size
    said = [run(url, "ask", str(large), QUESTION, "--by-hash") for _ in range(2)]
    assert said == [plain, plain]
    assert received(server) - before - uploaded < 1.01 * large.stat().st_size  # the first of the two sent it


@pytest.mark.parametrize("module", ["chat", "talk"])
def test_a_conversation_sends_its_clips_with_the_first_turn_alone(
    url: str, server: Door, large: Path, module: str
) -> None:
    before = received(server)
    if module == "chat":
        run(url, "chat", str(large), "--by-hash", typed="What is it?\nAnd now?\nIs it loud?\n")
    else:  # every turn is a clip and all before it
        files = [str(large)] * 3
        run(url, "talk", *files, "--by-hash", "--out", str(large.with_name("reply.wav")))
    assert large.stat().st_size < received(server) - before < 1.01 * large.stat().st_size


def test_batch_uploads_once_what_its_lines_share(url: str, server: Door, large: Path) -> None:
    lines = large.with_name("questions.jsonl")
    lines.write_text(
        "".join(
            json.dumps({"id": n, "audio": [large.name], "prompt": f"{QUESTION} {n}"}) + "\n" for n in range(4)
        )
    )
    before = received(server)
    out = large.with_name("answers.jsonl")
    run(url, "batch", str(lines), "--out", str(out), "--by-hash", "--in-flight", "1")
    assert [json.loads(line)["error"] for line in out.read_text().splitlines()] == [None] * 4
    assert received(server) - before < 1.01 * large.stat().st_size
