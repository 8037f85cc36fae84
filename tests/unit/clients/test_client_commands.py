"""The command lines ask and chat; against a stand-in for the server (see client_stand_in.py)."""

import _thread
import io
import json
import sys

import grpc
import pytest
from rich.console import Console

from clients import AudioFlamingo
from clients.commands import ask, batch, chat, talk, terminal
from clients.commands.completion import completions
from tests.support.client_stand_in import StandIn, answer, delta, empty_final, endless, refusal


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


def _thinks(request, context):
    yield delta("", 0, thinking="drops, ")
    yield delta("", 1, thinking="a gutter")
    yield delta("It rains.", 2, "stop")
    yield empty_final()


def test_ask_prints_reasoning_as_a_part_of_its_own(run, server, clip, capsys):
    server.behave = _thinks
    assert run(ask.main, "--json", clip, "What?") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["thinking"], printed["text"]) == ("drops, a gutter", "It rains.")


def test_reasoning_is_shown_to_humans_alone(run, server, clip, capsys, monkeypatch):
    server.behave = _thinks
    assert run(ask.main, clip, "What?") == 0
    assert capsys.readouterr() == ("It rains.\n", "")
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "_notes", Console(file=shown, force_terminal=True))
    assert run(ask.main, clip, "What?") == 0
    assert capsys.readouterr().out == "It rains.\n"
    assert "drops, " in shown.getvalue() and "a gutter" in shown.getvalue()


def test_chat_sends_no_reasoning_back(run, server, clip):
    server.behave = _thinks
    assert run(chat.main, clip, typed="One?\nTwo?\n") == 0
    assert ("assistant", 0, "It rains.") in _said(server.requests[-1])


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


def _refuses(word):
    """Refuse the first clip that holds `word`, as the server refuses what it cannot decode."""

    def behave(request, context):
        clips = request.raw_input_contents[0] if len(request.inputs) == 2 else b""
        files = []
        while clips:
            length = int.from_bytes(clips[:4], "little")
            files.append(clips[4 : 4 + length])
            clips = clips[4 + length :]
        bad = next((place for place, file in enumerate(files) if word in file), None)
        if bad is not None:
            yield from refusal(grpc.StatusCode.INVALID_ARGUMENT, f"audio[{bad}]: not sound")(request, context)
        yield from answer("fine")(request, context)

    return behave


def test_an_unreadable_clip_does_not_spoil_a_chat(run, server, clip, tmp_path, capsys):
    (tmp_path / "README.md").write_bytes(b"text")
    server.behave = _refuses(b"text")
    typed = f"One?\n/add {tmp_path / 'README.md'} {clip}\nTwo?\nThree?\n/list\n"
    assert run(chat.main, clip, typed=typed) == 1
    assert _said(server.requests[-1]) == [
        ("user", 1, "One?"),
        ("assistant", 0, "fine"),
        ("user", 1, "Three?"),
    ]
    told = " ".join(capsys.readouterr().err.split())
    assert "README.md is dropped; the other clips wait for your next question" in told
    assert told.count("heard ") == 2


def test_a_clip_that_has_gone_since_is_dropped_too(run, server, clip, tmp_path, capsys):
    gone = tmp_path / "gone.wav"
    gone.write_bytes(b"woof")
    server.behave = answer("fine")
    chatting = chat.Chat(AudioFlamingo(server.url), [], 60, {})
    chatting.add(gone)
    chatting.add(clip)
    gone.unlink()
    chatting.ask("One?")
    chatting.ask("Two?")
    assert _said(server.requests[-1]) == [("user", 1, "Two?")]
    assert "gone.wav is dropped" in capsys.readouterr().err


def test_clips_are_taken_back_by_number_or_name_and_all_at_once(run, server, clip, tmp_path, capsys):
    server.behave = answer("fine")
    for name in ("b.wav", "c.wav"):
        (tmp_path / name).write_bytes(name.encode())
    typed = f"/add {tmp_path / 'b.wav'} {tmp_path / 'c.wav'}\n/remove 1\n/remove c.wav\n/remove 7\nOne?\n"
    typed += f"/clear\n/add {tmp_path / 'c.wav'}\nTwo?\n"
    assert run(chat.main, clip, typed=typed) == 1  # there is no clip 7
    first, second = server.requests
    assert b"b.wav" in first.raw_input_contents[0]
    assert b"c.wav" not in first.raw_input_contents[0]
    assert _said(second) == [("user", 1, "Two?")]
    assert "7: no waiting clip" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["{}", "'{}'", '"{}"', "{escaped}"])
def test_a_path_with_blanks_may_be_quoted_or_not(run, server, tmp_path, written):
    clip = tmp_path / "my dog's bark.wav" if "'" not in written else tmp_path / "my dog.wav"
    clip.write_bytes(b"woof")
    escaped = str(clip).replace(" ", "\\ ").replace("'", "\\'")
    typed = f"/add {written.format(clip, escaped=escaped)}\nOne?\n"
    assert run(chat.main, typed=typed) == 0
    assert _said(server.requests[-1]) == [("user", 1, "One?")]


def test_the_commands_are_listed_and_a_wrong_one_is_no_question(run, server, capsys):
    assert run(chat.main, typed="/help\n/nope\n/add\n/list\n") == 0
    told = capsys.readouterr().err
    for command in chat.COMMANDS:
        assert command in told
    assert "/nope: unknown" in told
    assert server.requests == []


def test_tab_completes_commands_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("my dog.wav", "deep/a.wav", ".hidden"):
        (tmp_path / name).touch()
    assert completions("/a", chat.COMMANDS) == ["/add "]
    assert completions("/", chat.COMMANDS) == [f"{name} " for name in chat.COMMANDS]
    assert completions("What", chat.COMMANDS) == []
    assert completions("/add ", chat.COMMANDS) == ["/add deep/", "/add my\\ dog.wav "]
    assert completions("/add my\\ d", chat.COMMANDS) == ["/add my\\ dog.wav "]
    assert completions("/add 'my d", chat.COMMANDS) == ["/add my\\ dog.wav "]
    assert completions("/add my\\ dog.wav deep/", chat.COMMANDS) == ["/add my\\ dog.wav deep/a.wav "]
    assert completions("/add none/", chat.COMMANDS) == []


COMMANDS = {
    "ask": (ask.main, "What?"),
    "chat": (chat.main,),
    "batch": (batch.main, "questions.jsonl", "--out", "out.jsonl"),
    "talk": (talk.main, "clip.wav"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_certificate_that_is_not_there_is_an_error_of_one_sentence(
    run, command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_text('{"id": 1, "prompt": "?"}')
    (tmp_path / "clip.wav").touch()
    assert run(*COMMANDS[command], "--tls-ca", "none.pem", typed="One?\n") in (1, 2)
    assert "none.pem: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("seconds", ["inf", "nan", "1e13", "0", "-1", "soon"])
def test_a_timeout_that_is_none_is_wrong_usage(run, command, seconds, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*COMMANDS[command], f"--timeout={seconds}")
    assert stopped.value.code == 2
    assert "is no time to wait" in capsys.readouterr().err


def _interrupted(request, context):
    """Answer for ever; the user presses Ctrl-C after the first delta."""
    _thread.interrupt_main()
    yield from endless(request, context)
