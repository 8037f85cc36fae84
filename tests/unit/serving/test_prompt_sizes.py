"""How many tokens a prompt had, from the step that counts them to the step that ends the answer."""

import os
from pathlib import Path

import numpy as np
import pytest

from serving.steps import prompt_sizes
from serving.steps.prompt_sizes import KEPT_S, PromptSize, PromptSizes, prompt_size


def test_a_prompt_size_is_taken_once_by_its_request(tmp_path: Path) -> None:
    sizes = PromptSizes(f"{tmp_path}/prompt-")
    sizes.tell("one/../*", PromptSize(120, 75))
    sizes.tell("two", PromptSize(9, 0))
    other_process = PromptSizes(f"{tmp_path}/prompt-")
    assert other_process.take("one/../*") == PromptSize(120, 75)
    assert other_process.take("one/../*") is None
    assert other_process.take("two") == PromptSize(9, 0)
    assert list(tmp_path.iterdir()) == []


def test_prompt_sizes_that_nobody_takes_are_dropped(tmp_path: Path) -> None:
    sizes = PromptSizes(f"{tmp_path}/prompt-")
    sizes.tell("broken off", PromptSize(1, 0))
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, left.stat().st_mtime - KEPT_S - 1))
    sizes.tell("in flight", PromptSize(2, 0))
    sizes.forget_old()
    assert sizes.take("broken off") is None
    assert sizes.take("in flight") == PromptSize(2, 0)


def test_sizes_that_cannot_be_written_fail_no_request(tmp_path: Path) -> None:
    for sizes in (PromptSizes(), PromptSizes(f"{tmp_path}/no/such/folder/")):
        sizes.tell("one", PromptSize(1, 0))
        assert sizes.take("one") is None
        sizes.forget_old()


def test_audio_tokens_are_those_with_a_hash() -> None:
    tensors = {
        "input_lengths": np.array([[5]], np.int32),
        "prompt_table_extra_ids": np.array([[0, 7, 7, 0, 0]], np.uint64),
    }
    assert prompt_size(tensors) == PromptSize(5, 2)


def test_requests_that_are_never_answered_fill_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_sizes, "MOST", 100)
    monkeypatch.setattr(prompt_sizes, "SWEEP_EVERY", 10)
    sizes = PromptSizes(f"{tmp_path}/prompt-")
    for number in range(1_000):
        sizes.tell(f"request {number}", PromptSize(number, 0))
    assert len(list(tmp_path.iterdir())) <= 110
    assert sizes.take("request 999") == PromptSize(999, 0)
    assert sizes.take("request 950") == PromptSize(950, 0)
