"""How the processes of the steps end when their server is told to: by themselves, with exit code 0."""

import shlex
from pathlib import Path

import pytest

from serving.machine.install import BACKENDS
from tests.support.engines import BuiltEngines
from tests.support.ready_server import ready_server

STUB = "triton_python_backend_stub"
STEPS = ["audio_encoder", "llm", "postprocess", "preprocess", "preprocess", "tts"]
TRIES = 3


def noting_backends(folder: Path, codes: Path) -> Path:
    """Triton's backends, with a stub that writes down the step and the exit code of the real one."""
    python = folder / "backends" / "python"
    python.mkdir(parents=True)
    for file in (BACKENDS / "python").iterdir():
        if file.name != STUB:
            (python / file.name).symlink_to(file)
    real, noted = (shlex.quote(str(path)) for path in (BACKENDS / "python" / STUB, codes))
    (python / STUB).write_text(f'#!/bin/sh\n{real} "$@"\necho "$? $1" >> {noted}\n')
    (python / STUB).chmod(0o755)
    return python.parent


def test_no_step_crashes_when_the_server_stops(engines: BuiltEngines, tmp_path: Path) -> None:
    """A step that had no processor for a second is killed by Triton and leaves no code: then another is asked."""
    (tmp_path / "engines").symlink_to(engines.engines.parent)
    codes = tmp_path / "codes"
    backends = noting_backends(tmp_path, codes)
    for _ in range(TRIES):
        with ready_server(tmp_path, extra=(f"--backend-directory={backends}",)) as server:
            assert sorted(server.steps().values()) == STEPS
            codes.write_text(
                ""
            )  # a start asks each step for its configuration first, in a process of its own
        ended = [line.partition(" ") for line in codes.read_text().splitlines()]
        assert {code for code, _, _ in ended} <= {"0"}
        if sorted(Path(model).parts[-3] for _, _, model in ended) == STEPS:
            return
    pytest.fail(f"in none of {TRIES} stops did every step end by itself; in the last: {ended}")
