"""The client library and its command lines against the live server."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import soundfile

from clients import AsyncAudioFlamingo, AudioFlamingo, AudioFlamingoError, Samples
from tests.support.clips import clip

REPOSITORY = Path(__file__).parents[2]
WAIT_S = 60
# To these the random checkpoint answers until max_tokens; without the penalty it ends after some dozen tokens.
LONG_PROMPT = "count"
LONG = {"max_tokens": 1024, "repetition_penalty": 1.5}
LONG_FLAGS = ["--max-tokens", "1024", "--repetition-penalty", "1.5"]


@pytest.fixture
def flamingo(url):
    with AudioFlamingo(url) as connected:
        yield connected


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(clip(2.0))
    return path


@pytest.fixture
def start(url):
    """Start one of the command lines; every one is ended with the test."""
    started = []

    def start(module, *arguments):
        command = [sys.executable, "-m", f"clients.commands.{module}", *map(str, arguments), "--url", url]
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_S} s"
        time.sleep(0.01)


def _metric(server, name):
    address = f"http://{server.host}:{server.ports.metrics}/metrics"
    with urllib.request.urlopen(address, timeout=WAIT_S) as page:
        return float(re.search(rf"^{name}(?:{{.*}})? (\S+)$", page.read().decode(), re.MULTILINE)[1])


def test_a_path_its_bytes_and_its_samples_get_one_answer(flamingo, file):
    values, hz = soundfile.read(file, dtype="float32")
    answers = [
        [token for delta in flamingo.ask(audio, "What is it?", max_tokens=16) for token in delta.token_ids]
        for audio in (file, file.read_bytes(), Samples(values, hz))
    ]
    assert answers[0] == answers[1] == answers[2]


def test_the_servers_refusal_arrives_with_status_and_sentence_only(flamingo):
    with pytest.raises(AudioFlamingoError) as caught:
        flamingo.ask([b""], "What is it?").text()
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.message.startswith("audio[0]: the file is empty")


def test_refused_and_cancelled_streams_leave_the_server_alive(url):
    """Triton 2.51.0 itself does not survive some hundreds of cancelled streams; the door never cancels one."""
    for _ in range(100):
        with AudioFlamingo(url) as flamingo, pytest.raises(AudioFlamingoError, match="the file is empty"):
            flamingo.ask([b""], "What is it?").text()
        with AudioFlamingo(url) as flamingo, flamingo.ask([], LONG_PROMPT, **LONG) as answer:
            next(iter(answer))
    with AudioFlamingo(url) as flamingo:
        assert flamingo.ask([], LONG_PROMPT, max_tokens=4).text()


def test_cancelled_answers_free_their_slots_and_no_others(flamingo, server):
    alone = flamingo.ask([], LONG_PROMPT, **LONG).text()
    kept = flamingo.ask([], LONG_PROMPT, **LONG)
    dropped = [flamingo.ask([], LONG_PROMPT, **LONG) for _ in range(20)]
    for answer in dropped[:4]:
        next(iter(answer))
    for answer in dropped:
        answer.cancel()
    assert kept.text() == alone
    assert (kept.finish_reason, kept.token_count) == ("length", 1024)
    for answer in dropped:
        with pytest.raises(AudioFlamingoError, match="CANCELLED"):
            answer.text()
    for name in ("af3_llm_running", "af3_llm_waiting", "af3_answers_live"):
        _until(lambda name=name: _metric(server, name) == 0)


def test_a_deadline_frees_the_slot(flamingo, server):
    with pytest.raises(AudioFlamingoError, match=r"within 0\.05 s") as caught:
        flamingo.ask([], LONG_PROMPT, timeout_s=0.05, **LONG).text()
    assert caught.value.status == "DEADLINE_EXCEEDED"
    _until(lambda: _metric(server, "af3_llm_running") == 0)


def test_asyncio_answers_are_the_same_alone_and_among_others(url, flamingo, file):
    questions = [f"What is sound {number}?" for number in range(32)]

    async def ask_all():
        async with AsyncAudioFlamingo(url) as connected:
            return await asyncio.gather(
                *(connected.ask(file, each, max_tokens=40).text() for each in questions)
            )

    together = asyncio.run(ask_all())
    assert together[::8] == [flamingo.ask(file, each, max_tokens=40).text() for each in questions[::8]]


def test_ask_json_is_the_answer_of_the_library(start, flamingo, file):
    process = start("ask", file, file, "What are they?", "--json", "--max-tokens", "12")
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    answer = flamingo.ask([file, file], "What are they?", max_tokens=12)
    assert json.loads(out)["text"] == answer.text()


def test_chat_takes_turns_and_clips(start, flamingo, file):
    process = start("chat", file, "--max-tokens", "12")
    out, err = process.communicate(f"What is it?\n/add {file}\nAnd this?\n", timeout=WAIT_S)
    assert process.returncode == 0, err
    first = flamingo.ask(file, "What is it?", max_tokens=12).text()
    part = {"type": "audio"}
    messages = [
        {"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": first},
        {"role": "user", "content": [part, {"type": "text", "text": "And this?"}]},
    ]
    second = flamingo.chat(messages, [file, file], max_tokens=12).text()
    assert out == f"{first}\n{second}\n"


def test_ctrl_c_in_chat_stops_the_answer_and_not_the_chat(start, server, flamingo):
    process = start("chat", *LONG_FLAGS)
    others = [flamingo.ask([], LONG_PROMPT, **LONG) for _ in range(7)]  # so that the answer takes a while
    process.stdin.write(f"{LONG_PROMPT}\n")
    process.stdin.flush()
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate("/quit\n", timeout=WAIT_S)
    assert process.returncode == 0, err
    assert "stopped; this turn is forgotten" in err
    for other in others:
        other.cancel()
    _until(lambda: _metric(server, "af3_llm_running") == 0)


def test_a_killed_batch_goes_on_where_it_stopped(start, file, tmp_path):
    questions, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    lines = [{"id": number, "audio": [file.name], "prompt": f"What is {number}?"} for number in range(40)]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["batch", questions, "--out", out, "--in-flight", "4", "--max-tokens", "200"]
    killed = start(*command)
    _until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 3)
    killed.kill()
    killed.wait()
    done = out.read_text().splitlines()[:3]
    with out.open("a") as file_of_answers:
        file_of_answers.write('{"id": 39, "te')

    resumed = start(*command)
    _, err = resumed.communicate(timeout=WAIT_S)
    assert resumed.returncode == 0, err
    answers = out.read_text().splitlines()
    assert answers[:3] == done
    assert sorted(json.loads(line)["id"] for line in answers) == list(range(40))
    assert all(json.loads(line)["text"] for line in answers)


def test_a_batch_tells_its_errors_and_answers_the_rest(start, file, tmp_path):
    (file.parent / "empty.wav").write_bytes(b"")
    out = tmp_path / "answers.jsonl"
    process = start("batch", file.parent, "--prompt", "What is it?", "--out", out, "--max-tokens", "8")
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1, err
    errors = {line["id"]: line["error"] for line in map(json.loads, out.read_text().splitlines())}
    assert errors.get("clip.wav", err) is None
    assert errors["empty.wav"].startswith("INVALID_ARGUMENT: audio[0]: the file is empty")
