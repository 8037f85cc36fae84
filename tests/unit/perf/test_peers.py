"""The comparison with other servers: what its client reads, what it computes, what its report says is missed."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from perf.peers import comparison, environments, servers
from perf.peers.asking import Answer, RefusedError, figures, load, question, read_answer
from tests.support.processes import alive


def event(text: str | None = None, tokens: int | None = None) -> bytes:
    usage = None if tokens is None else {"completion_tokens": tokens}
    choices = [{"index": 0, "delta": {"content": text}}] if tokens is None else []
    return b"data: " + json.dumps({"choices": choices, "usage": usage}).encode() + b"\n\n"


@contextmanager
def answering(pieces: list[bytes], status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers every question with these pieces; its address and the questions."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def body(number: int) -> bytes:
    return question(bytes([number]), "wav", "What?", "af3", 3, {"ignore_eos": True})


def test_a_load_asks_each_question_once_and_counts_the_tokens_that_the_server_counted() -> None:
    whole = event("") + event("I hear") + event(" it.") + event(tokens=3) + b"data: [DONE]\n\n"
    with answering([whole]) as (url, asked):
        found = asyncio.run(load(url, [body(number) for number in range(7)], 3, 60))
    assert found.answers == 7 and found.errors == 0
    assert found.tokens_per_s == pytest.approx(3 * found.requests_per_s)
    clips = [one["messages"][0]["content"][0]["input_audio"]["data"] for one in asked]
    assert len(set(clips)) == len(clips) == 7
    assert all(one["ignore_eos"] and one["temperature"] == 0 and one["max_tokens"] == 3 for one in asked)


def test_an_answer_is_the_same_wherever_its_bytes_are_cut() -> None:
    whole = event("I hear") + event(" it.") + event(tokens=3) + b"data: [DONE]\n\n"
    for cut in range(len(whole)):
        answer = read_answer(0.0, [(1.0, whole[:cut]), (2.0, whole[cut:])])
        assert (answer.text, answer.tokens) == ("I hear it.", 3)
        assert answer.texts_s[-1] == (1.0 if cut >= len(event("I hear") + event(" it.")) - 1 else 2.0)


def test_a_load_ends_when_its_time_is_over() -> None:
    with answering([event("I"), event(tokens=1)]) as (url, asked):
        asyncio.run(load(url, [body(0)] * 100, 4, 0.0))
    assert len(asked) == 4  # one of each client


@pytest.mark.parametrize(
    ("pieces", "status", "said"),
    [
        ([b"no sound"], 400, "HTTP 400: b'no sound'"),
        ([b'data: {"error": {"message": "too long"}}\n\n'], 200, "too long"),
        ([event(tokens=0)], 200, "the answer is empty"),
    ],
)
def test_a_load_without_an_answer_says_what_the_server_said(
    pieces: list[bytes], status: int, said: str
) -> None:
    with answering(pieces, status) as (url, _), pytest.raises(RefusedError, match=said):
        asyncio.run(load(url, [body(0)], 1, 0.0))


def test_the_figures_of_two_answers() -> None:
    answers = [
        Answer("ab", 3, sent_s=10.0, texts_s=(10.5, 10.7, 10.9), ended_s=11.0),
        Answer("ab", 3, sent_s=11.0, texts_s=(11.3, 11.4, 11.5), ended_s=12.0),
    ]
    found = figures(answers, 1, 0.25)
    assert (found.requests_per_s, found.tokens_per_s) == pytest.approx((1.0, 3.0))
    assert found.first_p50_s == pytest.approx(0.4)
    assert found.whole_p50_s == pytest.approx(1.0)
    assert found.token_s == pytest.approx(0.15)  # 0.4 s and 0.2 s for two more tokens
    assert found.gap_p99_s == pytest.approx(0.2)
    assert (found.errors, found.processor_s) == (1, 0.25)


def raw(rate: float, first_s: float, start_s: float = 1.0) -> dict[str, Any]:
    """A run in which ours answers so many a second and the other, in each of two rounds, two a second after 1 s."""
    figures = {
        "tokens_per_s": 1,
        "first_p95_s": 1,
        "whole_p50_s": 1,
        "token_s": 0.001,
        "gap_p99_s": 0.1,
        "errors": 0,
    }
    loads = [
        {
            "round": number,
            "seconds": 5.0,
            "tokens": 32,
            "clients": 8,
            "server": name,
            "figures": figures | {"requests_per_s": requests, "first_p50_s": first},
        }
        for number in range(2)
        for name, requests, first in (("ours", rate, first_s), ("vLLM", 2.0, 1.0))
    ]
    server = {"version": "1", "start_s": start_s, "memory_bytes": 200 << 20, "memory_after_bytes": 300 << 20}
    return {
        "date": "today",
        "checkpoint": "af3-tiny",
        "cores": 2,
        "processor": "some",
        "load_average": 0.5,
        "rounds": 2,
        "tokens": 32,
        "servers": {"ours": server, "vLLM": server},
        "exact": {"vLLM": {"same": 6, "asked": 8, "refused": 2}},
        "loads": loads,
    }


def test_the_report_says_what_was_met_and_what_was_missed(tmp_path: Path) -> None:
    comparison.write(raw(7.0, 0.5), tmp_path)
    told = (tmp_path / "report.md").read_text()
    assert "| 8 | vLLM | 2.00 | 1 | 1000 | 1000 | 1.00 | 100 | 3.50 | 2.00 |" in told
    assert "| vLLM | 1.0 | 200 | 300 | 6 of 8, 2 refused |" in told
    assert (tmp_path / "throughput.png").stat().st_size and (tmp_path / "clip_length.png").stat().st_size
    assert [line.endswith(": met") for line in comparison.verdicts(raw(7.0, 0.5))] == [True, True]


@pytest.mark.parametrize(
    ("run", "missed"),
    [(raw(6.9, 0.5), 0), (raw(7.0, 1.1), 0), (raw(7.0, 0.5, start_s=2.1), 1)],
    ids=["slower than wanted", "first token later", "start"],
)
def test_one_figure_below_its_goal_is_a_miss(run: dict[str, Any], missed: int) -> None:
    lines = comparison.verdicts(run)
    assert [line.endswith("**missed**") for line in lines] == [index == missed for index in range(2)]


def peer_in(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of llama.cpp whose Python runs this program instead."""
    python = folder / "llama" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!{sys.executable}\nimport sys\nif '-c' in sys.argv: print('9.9'); sys.exit()\n{program}"
    )
    python.chmod(0o755)
    monkeypatch.setattr(environments, "VENVS", folder)
    monkeypatch.setattr(servers, "gguf", lambda checkpoint: (Path("llm"), Path("encoder")))


SERVER = f"""
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write({event("I hear") + event(tokens=2)!r})
    def log_message(self, *words): pass
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_a_server_is_up_when_it_has_answered_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer_in(tmp_path, SERVER, monkeypatch)
    with servers.llama_cpp(Path("af3-tiny"), True) as server:
        assert (server.name, server.version, server.fields) == ("llama.cpp", "9.9", {"ignore_eos": True})
        assert server.start_s > 0 and server.memory() > 0
        assert alive(server.pid)
    assert not alive(server.pid)


def test_a_server_that_ends_is_an_error_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer_in(tmp_path, "sys.exit('no such model')", monkeypatch)
    said = "llama.cpp gave no first answer.*no such model"
    with pytest.raises(environments.PeerError, match=said), servers.llama_cpp(Path("af3-tiny"), True):
        pass


def test_a_missing_environment_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    with (
        pytest.raises(environments.PeerError, match="make setup-peers"),
        servers.vllm(Path("af3-tiny"), True),
    ):
        pass


def test_transformers_serves_a_checkpoint_whose_answers_do_not_end(tmp_path: Path) -> None:
    checkpoint = Path("checkpoints/af3-tiny")
    before = (checkpoint / "generation_config.json").read_bytes()
    servers._link(checkpoint, tmp_path / "linked", full_length=True)
    changed = json.loads((tmp_path / "linked" / "generation_config.json").read_text())
    vocabulary = json.loads((checkpoint / "config.json").read_text())["text_config"]["vocab_size"]
    assert changed["eos_token_id"] == vocabulary - 1
    assert (checkpoint / "generation_config.json").read_bytes() == before  # the links lead to the real one
    assert (tmp_path / "linked" / "model.safetensors").readlink() == (
        checkpoint / "model.safetensors"
    ).resolve()
