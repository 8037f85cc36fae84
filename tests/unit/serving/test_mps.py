"""CUDA's MPS with a stand-in for NVIDIA's daemon: what it is told, what those started inside see, how it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving.address import ServerError
from serving.host import launch, mps
from serving.host.launch_settings import from_command_line
from serving.host.mps import LOGS, PIPES, shared_gpu


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes down what it was told, and where its pipes would be."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / mps.PROGRAM
    program.write_text(
        f'#!/bin/sh\nread said\necho "$* $said $CUDA_MPS_PIPE_DIRECTORY" >> {tmp_path}/told\n'
        f'[ "$1" = -d ] && [ -e {tmp_path}/broken ] && echo "no device" >&2 && exit 1\n'
        'test -d "$CUDA_MPS_PIPE_DIRECTORY"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def told(daemon: Path) -> list[str]:
    return (daemon / "told").read_text().splitlines()


def test_a_daemon_of_our_own_runs_as_long_as_what_is_inside(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIPES, "/somebody/elses")
    monkeypatch.delenv(LOGS, raising=False)
    with shared_gpu(True):
        pipes = os.environ[PIPES]
        assert Path(pipes).is_dir() and Path(os.environ[LOGS]).is_dir()
        assert told(daemon) == [f"-d  {pipes}"]
    assert told(daemon)[1] == f" quit {pipes}"
    assert os.environ[PIPES] == "/somebody/elses" and LOGS not in os.environ
    assert not Path(pipes).exists()


def test_it_ends_with_a_server_that_fails(daemon: Path) -> None:
    with pytest.raises(KeyboardInterrupt), shared_gpu(True):
        raise KeyboardInterrupt
    assert len(told(daemon)) == 2


def test_nothing_is_started_where_it_is_not_wanted(daemon: Path) -> None:
    with shared_gpu(False):
        assert PIPES not in os.environ or "af3-mps" not in os.environ[PIPES]
    assert not (daemon / "told").exists()


def test_a_daemon_that_is_not_there_or_does_not_start_is_said_in_its_words(
    daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (daemon / "broken").touch()
    with (
        pytest.raises(ServerError, match="--mps: nvidia-cuda-mps-control did not start: no device"),
        shared_gpu(True),
    ):
        pass
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServerError, match=r"there is no nvidia-cuda-mps-control here"), shared_gpu(True):
        pass


def test_a_cpu_has_nothing_to_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch", "--mps", "true"])
    assert launch.main() == 2
    assert "--mps: there is no GPU to share" in capsys.readouterr().err


def test_it_is_an_option_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not from_command_line("", []).mps
    assert from_command_line("", ["--mps", "true"]).mps
    monkeypatch.setenv("AF3_MPS", "1")
    assert from_command_line("", []).mps
