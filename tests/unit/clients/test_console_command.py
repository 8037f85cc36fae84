"""The console command `audio-flamingo`."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import clients
from clients import __main__ as console

REPOSITORY = Path(__file__).parents[3]


def run(*words: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clients", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"audio-flamingo {clients.__version__}\n"


@pytest.mark.parametrize("word", [*console.CLIENT_COMMANDS, *console.SERVER_COMMANDS])
def test_every_command_is_listed_and_has_a_help_of_its_own(word: str) -> None:
    assert f"  {word} " in run("--help").stdout
    done = run(word, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: audio-flamingo {word} ")


@pytest.mark.parametrize("words", [(), ("nosuch",)])
def test_no_command_is_wrong_usage(words: tuple[str, ...]) -> None:
    assert run(*words).returncode == 2


@pytest.mark.parametrize("word", console.SERVER_COMMANDS)
def test_a_command_of_the_server_says_kindly_that_only_the_client_is_here(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["audio-flamingo", word])
    assert console.main() == 2
    assert "only the client" in capsys.readouterr().err


def test_a_clone_without_the_servers_libraries_says_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "serving"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["audio-flamingo", "serve"])
    assert console.main() == 2
    told = capsys.readouterr().err
    assert "only the client" in told
    assert "missing: psutil" in told
