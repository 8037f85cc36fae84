"""`make engines CHECKPOINT=nvidia/audio-flamingo-next-hf DRY_RUN=1`, as typed: plan and limits, without a network."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from build_engines.source import reach

REPOSITORY = Path(__file__).parents[2]
NEXT = "nvidia/audio-flamingo-next-hf"
# What is installed is not looked at: no rule of `make setup` runs.
INSTALLED = (
    ".venv/ready",
    ".venv/ready-build",
    ".venv-vllm/ready-gpu",
    ".venv-vllm/ready-rtx",
    ".venv-vllm/ready-cpu",
)
NOWHERE = "http://127.0.0.1:9"  # a proxy that nobody is


def dry_run(*words: str) -> str:
    """What make says."""
    old = [word for stamp in INSTALLED for word in ("-o", stamp)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory", *old, "engines", *words, "DRY_RUN=1"],
        cwd=REPOSITORY,
        env=environment | {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "HF_HUB_CACHE": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PLANS = {
    "cpu": (r"memory plan: a CPU", r"KV cache +\d+\.\d GiB +of the longest request, 65096 tokens"),
    "h100": (r"10 slots x 45000 rows", r"window_index:\[20\]", r"30 min clips"),
    "any": (r"memory plan: any, 80\.0 GiB", r"1800 s of audio +\d+"),
    "rtx": (r"memory plan: rtx, 24\.0 GiB", r"use PRECISION=fp8"),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("target", PLANS)
def test_plan_and_limits_of_half_an_hour_are_told_offline(target: str) -> None:
    told = dry_run(f"GPU={target}", f"CHECKPOINT={NEXT}")
    assert (
        "clips of 1800 s, 45000 audio tokens and 16000 text tokens a request, answers of 4096 tokens" in told
    )
    assert "sequences of 65096" in told
    assert "Noncommercial" in told
    for line in PLANS[target]:
        assert re.search(line, told), line


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["nvidia/audio-flamingo-3-chat", "nvidia/music-flamingo-2601-hf"])
def test_every_published_checkpoint_is_known_by_its_name(name: str) -> None:
    told = dry_run("GPU=cpu", f"CHECKPOINT={name}")
    known = reach.published(name)
    assert f"clips of {known.clip_seconds} s" in told
    assert f"answers of {known.answer_tokens} tokens" in told
