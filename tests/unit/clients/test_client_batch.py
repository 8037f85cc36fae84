"""Batches and their resuming; against a stand-in for the server (see client_stand_in.py)."""

import json
import sys

import grpc
import pytest

from clients.commands import batch
from tests.support.client_stand_in import StandIn, answer, refusal


@pytest.fixture
def server():
    with StandIn() as running:
        yield running


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Run a batch into answers.jsonl of the test's folder; its exit code."""

    def run(*arguments, url=server.url):
        out = tmp_path / "answers.jsonl"
        words = ["batch", *map(str, arguments), "--out", str(out), "--url", url]
        monkeypatch.setattr(sys, "argv", words)
        return batch.main()

    return run


@pytest.fixture
def answers(tmp_path):
    def read():
        return [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]

    return read


@pytest.fixture
def questions(tmp_path):
    """Write a JSONL file of these objects (or raw lines); its path."""

    def write(*lines):
        file = tmp_path / "questions.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        file.write_text("\n".join(texts) + "\n")
        return file

    return write


def test_a_folder_is_asked_clip_by_clip(run, answers, server, tmp_path):
    clips = tmp_path / "clips"
    (clips / "deep").mkdir(parents=True)
    for name in ("b.WAV", "deep/a.mp3", "notes.txt"):
        (clips / name).write_bytes(name.encode())
    assert run(clips, "--prompt", "What?") == 0
    assert {line["id"] for line in answers()} == {"b.WAV", "deep/a.mp3"}
    assert len(server.requests) == 2


def test_a_line_has_the_promised_fields(run, answers, server, questions):
    server.behave = answer("a ", "dog")
    run(questions({"id": 7, "prompt": "What?"}))
    (line,) = answers()
    assert list(line) == ["id", "text", "finish_reason", "token_count", "seconds", "error", "asked"]
    assert (line["id"], line["text"], line["finish_reason"], line["token_count"], line["error"]) == (
        7,
        "a dog",
        "stop",
        2,
        None,
    )


def test_parameters_of_a_line_win_over_the_flags(run, server, questions):
    run(questions({"id": 1, "prompt": "?", "max_tokens": 5}), "--max-tokens", "9", "--seed", "3")
    sent = server.requests[0].parameters
    assert (sent["max_tokens"].int64_param, sent["seed"].int64_param) == (5, 3)


def test_audio_is_looked_for_beside_the_input_file(run, server, questions, tmp_path):
    (tmp_path / "dog.wav").write_bytes(b"woof")
    assert run(questions({"id": 1, "audio": ["dog.wav"], "prompt": "?"})) == 0
    assert server.requests[0].raw_input_contents[0].endswith(b"woof")


def test_an_error_is_a_line_and_not_the_end(run, answers, questions):
    code = run(
        questions({"id": 1, "audio": ["gone.wav"], "prompt": "?"}, {"id": 2, "prompt": "?"}),
        "--in-flight",
        "1",
    )
    assert code == 1
    assert [(line["id"], bool(line["error"])) for line in answers()] == [(1, True), (2, False)]
    assert "gone.wav: No such file" in answers()[0]["error"]


def test_what_came_before_an_error_is_kept(run, answers, server, questions):
    server.behave = refusal(grpc.StatusCode.INTERNAL, "broken")
    run(questions({"id": 1, "prompt": "?"}))
    assert (answers()[0]["text"], answers()[0]["error"]) == ("so", "INTERNAL: broken")


def test_done_ids_are_not_asked_again(run, answers, server, questions):
    run(questions({"id": 1, "prompt": "?"}))
    assert run(questions({"id": 1, "prompt": "?"}, {"id": 2, "prompt": "?"})) == 0
    assert len(server.requests) == 2
    assert [line["id"] for line in answers()] == [1, 2]


def test_a_broken_last_line_is_dropped_and_asked_again(run, answers, questions, tmp_path):
    both = questions({"id": 1, "prompt": "?"}, {"id": 2, "prompt": "?"})
    run(both, "--in-flight", "1")
    out = tmp_path / "answers.jsonl"
    out.write_bytes(out.read_bytes()[:-9])
    assert run(both) == 0
    assert [line["id"] for line in answers()] == [1, 2]


def test_errors_are_asked_again_only_when_told(run, answers, server, questions):
    file = questions({"id": 1, "prompt": "?"})
    server.behave = refusal(grpc.StatusCode.INTERNAL, "broken")
    run(file)
    server.behave = answer("fine")
    assert run(file) == 1  # the error of the earlier run still stands in the file
    assert len(server.requests) == 1
    assert run(file, "--retry-errors") == 0
    assert [line["text"] for line in answers()] == ["fine"]


def test_a_full_queue_is_waited_for(run, answers, server, questions, monkeypatch):
    monkeypatch.setattr(batch, "PAUSES_S", (0, 0))
    replies = iter([refusal(grpc.StatusCode.UNAVAILABLE, "queue full"), answer("fine")])
    server.behave = lambda request, context: next(replies)(request, context)
    assert run(questions({"id": 1, "prompt": "?"})) == 0
    assert answers()[0]["text"] == "fine"


def test_a_server_that_is_gone_ends_the_run_without_error_lines(run, answers, questions, capsys):
    many = questions(*({"id": number, "prompt": "?"} for number in range(20)))
    assert run(many, url="127.0.0.1:9") == 1
    assert answers() == []
    assert "make serve" in capsys.readouterr().err


def test_a_foreign_out_file_is_left_alone(run, questions, tmp_path):
    (tmp_path / "answers.jsonl").write_text("my thesis\n")
    assert run(questions({"id": 1, "prompt": "?"})) == 2
    assert (tmp_path / "answers.jsonl").read_text() == "my thesis\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({"prompt": "?"}, 'no "id"'),
        ({"id": 1}, 'neither "prompt" nor "messages"'),
        ({"id": 1, "prompt": "?", "messages": []}, "both"),
        ({"id": 1, "prompt": "?", "max_token": 3}, "unknown max_token"),
        ({"id": 1, "prompt": "?", "audio": "a.wav"}, '"audio" is not a list'),
        ({"id": 1, "prompt": 5}, '"prompt" is not a string'),
        ({"id": 1, "messages": "hi"}, '"messages" is not a list'),
        ({"id": 0, "prompt": "?"}, "id 0 is on line 1 too"),
        ({"id": 1, "prompt": "\ud800"}, "surrogate"),
    ],
)
def test_bad_input_is_told_with_its_line_before_anything_is_asked(
    run, server, questions, capsys, line, problem
):
    assert run(questions({"id": 0, "prompt": "?"}, line)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "questions.jsonl:2: " in told
    assert problem in told
    assert server.requests == []


def test_a_folder_takes_every_format_and_names_what_it_skips(run, answers, tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    heard = ["a.opus", "b.oga", "c.m4a", "d.webm", "e.aiff", "f.MP2", "g", "h.xyz"]
    for name in [*heard, "notes.txt", ".hidden.wav", "cover.JPG"]:
        (clips / name).write_bytes(b"woof")
    assert run(clips, "--prompt", "What?") == 0
    assert sorted(line["id"] for line in answers()) == heard
    told = " ".join(capsys.readouterr().err.split())
    assert "3 files are hidden or no sound and were skipped: .hidden.wav, cover.JPG, notes.txt" in told


def test_a_folder_without_sound_says_what_is_in_it(run, tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    assert run(tmp_path / "texts", "--prompt", "What?") == 2
    told = capsys.readouterr().err
    assert "no sound files" in told
    assert "a.txt" in told


def test_another_prompt_for_the_same_answers_is_refused(run, answers, server, tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.wav").write_bytes(b"woof")
    assert run(clips, "--prompt", "What?") == 0
    assert run(clips, "--prompt", "Who?") == 2
    assert "holds the answer of 'a.wav' to another question" in " ".join(capsys.readouterr().err.split())
    assert len(server.requests) == len(answers()) == 1
    assert run(clips, "--prompt", "What?", "--max-tokens", "9") == 0


def test_answers_of_an_earlier_release_are_resumed(run, server, questions, tmp_path):
    line = {"id": 1, "text": "a", "finish_reason": "stop", "token_count": 1, "seconds": 1, "error": None}
    (tmp_path / "answers.jsonl").write_text(json.dumps(line) + "\n")
    assert run(questions({"id": 1, "prompt": "?"})) == 0
    assert server.requests == []


def test_the_servers_own_time_to_try_again_is_waited(run, answers, server, questions, monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(batch.asyncio, "sleep", sleep)
    starting = refusal(grpc.StatusCode.UNAVAILABLE, "the server is starting; try again in 7.5 s")
    replies = iter([starting] * 9 + [answer("fine")])
    server.behave = lambda request, context: next(replies)(request, context)
    assert run(questions({"id": 1, "prompt": "?"})) == 0
    assert answers()[0]["text"] == "fine"
    assert [seconds for seconds in waited if seconds] == [7.5] * 9


def test_a_server_without_room_is_not_waited_for_without_end(run, answers, server, questions, monkeypatch):
    monkeypatch.setattr(batch, "PAUSES_S", (0.01,))
    monkeypatch.setattr(batch, "LONGEST_WAIT_S", 0.1)
    server.behave = refusal(grpc.StatusCode.UNAVAILABLE, "queue full")
    assert run(questions({"id": 1, "prompt": "?"})) == 1
    assert answers()[0]["error"] == "UNAVAILABLE: queue full"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"id": 1, "prompt": "é"}'.encode("latin-1"), "no UTF-8 text (byte 21)"),
        ("x".encode("utf-16"), "no UTF-8 text"),
        (b'{"id": true, "prompt": "?"}', 'no "id"'),
        (b"[" * 200_000, "not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_broken_file_is_an_error_of_one_sentence(run, server, tmp_path, capsys, content, problem):
    (tmp_path / "questions.jsonl").write_bytes(content)
    assert run(tmp_path / "questions.jsonl") == 2
    assert problem in " ".join(capsys.readouterr().err.split())
    assert server.requests == []


def test_a_byte_order_mark_is_no_part_of_the_first_line(run, tmp_path):
    (tmp_path / "questions.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1, "prompt": "?"}')
    assert run(tmp_path / "questions.jsonl") == 0


@pytest.mark.parametrize("line", ['{"id": [1], "error": null}', "[1]", "5", "[" * 200_000])
def test_an_out_file_of_something_else_is_left_alone(run, questions, tmp_path, line):
    (tmp_path / "answers.jsonl").write_text(line + "\n")
    assert run(questions({"id": 1, "prompt": "?"})) == 2
    assert (tmp_path / "answers.jsonl").read_text() == line + "\n"


@pytest.mark.parametrize("out", ["none/answers.jsonl", "."])
def test_an_out_file_that_cannot_be_written_is_named(server, questions, tmp_path, monkeypatch, capsys, out):
    words = ["batch", str(questions({"id": 1, "prompt": "?"})), "--out", str(tmp_path / out)]
    monkeypatch.setattr(sys, "argv", [*words, "--url", server.url])
    assert batch.main() == 2
    assert f"--out {tmp_path / out}: " in "".join(capsys.readouterr().err)
    assert server.requests == []
