"""The second try of a tritonserver that tests start, with a stand-in for it."""

import sys
from pathlib import Path

import pytest

from serving.address import ServerCrashed, ServerError
from serving.host import triton
from serving.host.triton import Server
from tests.support.ready_server import TRIES, ready_server

STAND_IN = """#!{python}
import os, pathlib, signal, sys, time
tries = pathlib.Path("tries")
tries.write_text(str(int(tries.read_text()) + 1) if tries.exists() else "1")
if int(tries.read_text()) <= {failing}:
    {failure}
pathlib.Path("up").touch()
time.sleep(1000)
"""
ABORT = "os.kill(os.getpid(), signal.SIGABRT)"
PORT = "sys.exit('error: failed to start: 127.0.0.1:1: Address already in use')"
OTHER = "sys.exit('error: engines are missing')"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int, failure: str) -> None:
    binary = folder / "tritonserver"
    binary.write_text(STAND_IN.format(python=sys.executable, failing=failing, failure=failure))
    binary.chmod(0o755)
    monkeypatch.setattr(triton, "_server_binary", lambda: (binary, folder))
    monkeypatch.setattr(triton, "EXIT_TIMEOUT_S", 0)


def up(server: Server) -> bool:
    return (server.log.parent / "up").exists()


@pytest.mark.parametrize("failure", [ABORT, PORT])
def test_what_chance_ended_is_started_again(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, TRIES - 1, failure)
    with ready_server(tmp_path, ready=up) as server:
        assert server.exit_code is None
    assert (tmp_path / "tries").read_text() == str(TRIES)


def test_who_always_aborts_is_not_started_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, 100, ABORT)
    with pytest.raises(ServerCrashed), ready_server(tmp_path, ready=up):
        pass
    assert (tmp_path / "tries").read_text() == str(TRIES)


def test_a_fault_of_the_server_itself_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, 1, OTHER)
    with pytest.raises(ServerError, match="engines are missing"), ready_server(tmp_path, ready=up):
        pass
    assert (tmp_path / "tries").read_text() == "1"
