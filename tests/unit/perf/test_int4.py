"""int4 beside llama.cpp's Q4_0: the table, and what is said when something is missing. Stand-ins decode."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from perf import int4
from perf.peers.environments import PeerError


class Decoder:
    def __init__(self, engines: Path, threads: int) -> None:
        self.rounds = 0

    def rates(self, prompt: np.ndarray) -> tuple[float, float]:
        self.rounds += 1
        return 200.0, 10.0 * self.rounds  # 20, 30, 40 after the one that warms up


@contextmanager
def server(model: Path, threads: int) -> Iterator[str]:
    yield "http://127.0.0.1:1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in ("checkpoint", "engines"):
        (tmp_path / part).mkdir()
    monkeypatch.setattr(int4, "Ours", Decoder)
    monkeypatch.setattr(int4, "language_model", server)
    monkeypatch.setattr(int4, "q4_gguf", lambda checkpoint, path: None)
    monkeypatch.setattr(int4, "theirs", lambda url, prompt: (100.0, 20.0))
    return tmp_path


def test_rates_and_their_ratio_are_those_of_the_rounds_after_the_first(folder: Path) -> None:
    last = int4.compare(folder, rounds=3, threads=2).splitlines()[-1]
    assert last.split(" | ")[1:] == ["30.0 (20.0–40.0)", "20.0 (20.0–20.0)", "1.50 (1.00–2.00) |"]


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path, capsys) -> None:
    assert int4.main([str(tmp_path)]) == 1
    assert f"python -m tests.full_size {tmp_path}" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_an_error_and_no_traceback(
    folder: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(checkpoint: Path, path: Path) -> None:
        raise PeerError("llama.cpp is missing: make setup-peers")

    monkeypatch.setattr(int4, "q4_gguf", fail)
    assert int4.main([str(folder)]) == 1
    assert capsys.readouterr().err == "llama.cpp is missing: make setup-peers\n"
