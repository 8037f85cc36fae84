"""The command lines ask and chat; against a stand-in for the server (see client_stand_in.py)."""

import _thread
import io
import json
import sys

import grpc
import pytest

from clients.commands import ask, chat
from tests.support.client_stand_in import StandIn, answer, endless, refusal


@pytest.fixture
def server():
    with StandIn() as running:
        yield running


@pytest.fixture
def run(server, monkeypatch):
    """Run a command's main with these arguments and lines typed; its exit code."""

    def run(main, *arguments, typed=""):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments), "--url", server.url])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        return main()

    return run


@pytest.fixture
def clip(tmp_path):
    file = tmp_path / "clip.wav"
    file.write_bytes(b"woof")
    return file


def _said(request):
    """The conversation in a request, as (role, clips, text)."""
    turns = json.loads(request.raw_input_contents[-1][4:])
    return [
        (turn["role"], 0, turn["content"])
        if isinstance(turn["content"], str)
        else (turn["role"], len(turn["content"]) - 1, turn["content"][-1]["text"])
        for turn in turns
    ]


def test_ask_prints_the_answer_and_nothing_else_to_a_pipe(run, server, clip, capsys):
    server.behave = answer("a ", "dog")
    assert run(ask.main, clip, "What?") == 0
    assert capsys.readouterr() == ("a dog\n", "")


def test_ask_takes_its_flags_in_any_place(run, server, clip):
    assert run(ask.main, clip, "--max-tokens", 5, clip, "--think", "What?") == 0
    request = server.requests[0]
    assert request.inputs[0].shape == [2]
    assert (request.parameters["max_tokens"].int64_param, request.parameters["think"].bool_param) == (5, True)


def test_ask_prints_one_json_object(run, server, clip, capsys):
    server.behave = answer("a ", "dog")
    assert run(ask.main, "--json", clip, "What?") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("seconds") >= 0
    assert printed == {"text": "a dog", "finish_reason": "stop", "token_count": 2, "error": None}


def test_ask_tells_an_error_as_json_too(run, server, clip, capsys):
    server.behave = refusal(grpc.StatusCode.INVALID_ARGUMENT, "too loud")
    assert run(ask.main, "--json", clip, "What?") == 1
    assert json.loads(capsys.readouterr().out)["error"] == "INVALID_ARGUMENT: too loud"


def test_ask_tells_a_missing_file(run, capsys):
    assert run(ask.main, "gone.wav", "What?") == 1
    assert "gone.wav: No such file" in capsys.readouterr().err


def test_ask_notices_a_forgotten_question(run, server, clip, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(ask.main, clip)
    assert stopped.value.code == 2
    assert "the last argument is the question" in capsys.readouterr().err


def test_ask_takes_a_question_longer_than_a_file_name(run):
    assert run(ask.main, "why? " * 1000) == 0


def test_chat_sends_all_turns_and_clips_every_time(run, server, clip):
    server.behave = answer("fine")
    assert run(chat.main, clip, typed=f"One?\n/add {clip}\nTwo?\n/quit\nThree?\n") == 0
    assert _said(server.requests[-1]) == [("user", 1, "One?"), ("assistant", 0, "fine"), ("user", 1, "Two?")]
    assert server.requests[-1].inputs[0].shape == [2]
    assert len(server.requests) == 2


def test_chat_forgets_a_failed_turn_but_not_its_clips(run, server, clip, capsys):
    replies = iter([refusal(grpc.StatusCode.INTERNAL, "broken"), answer("fine")])
    server.behave = lambda request, context: next(replies)(request, context)
    assert run(chat.main, clip, typed="One?\nTwo?\n") == 1
    assert _said(server.requests[-1]) == [("user", 1, "Two?")]
    assert "broken" in capsys.readouterr().err


def test_chat_ctrl_c_stops_the_answer_and_not_the_chat(run, server, clip):
    replies = iter([_interrupted, answer("fine")])
    server.behave = lambda request, context: next(replies)(request, context)
    assert run(chat.main, clip, typed="One?\nTwo?\n") == 0
    assert _said(server.requests[-1]) == [("user", 1, "Two?")]


def _interrupted(request, context):
    """Answer for ever; the user presses Ctrl-C after the first delta."""
    _thread.interrupt_main()
    yield from endless(request, context)
