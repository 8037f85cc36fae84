"""The real Kokoro-82M, built once into `.cache/kokoro/`, and the environment of the programs that judge it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from af3.speech.engines.kokoro import KokoroSynthesizer
from build_engines.stage import run
from build_engines.voice import choose_voice, kokoro_files
from build_engines.voice.kokoro_files import KokoroFiles

BUILT = kokoro_files.CACHE / "engines"
JUDGES = Path(os.environ.get("KOKORO_JUDGES", ".venv-kokoro")) / "bin" / "python"
PROGRAMS = Path(__file__).with_name("other_programs.py")


@pytest.fixture(scope="session")
def voices() -> Iterator[KokoroSynthesizer]:
    run([choose_voice.stage("kokoro")], BUILT)
    synthesizer = KokoroSynthesizer.load(BUILT / "voice", threads=2)
    yield synthesizer
    synthesizer.close()


@pytest.fixture(scope="session")
def published() -> KokoroFiles:
    return kokoro_files.find("kokoro")


@pytest.fixture(scope="session")
def judge() -> Callable[[str, dict[str, Any]], str]:
    """Runs a task of `other_programs.py` and returns what it printed."""
    if not JUDGES.exists():
        pytest.fail(f"{JUDGES} is not there: `make test-kokoro` makes it")

    def ask(name: str, task: dict[str, Any]) -> str:
        done = subprocess.run(
            [JUDGES, PROGRAMS, name], input=json.dumps(task), capture_output=True, text=True, timeout=3000
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask
