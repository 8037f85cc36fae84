"""The step `audio_encoder` as Triton calls it: one call at a time, and no call waits for another's clip."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from af3 import contract
from af3.encoder.interface import Window
from af3.stop import stop_values
from tests.support.pb_utils_stand_in import MetricFamily, Request, load_model
from tests.support.tiny import LIMITS, manifest

WAIT_S = 30
SHORT, FULL = 8_000, 480_000


class Gated:
    """Every window gives one row with its length; a full one waits for `go_on`."""

    def __init__(self) -> None:
        self.full = 0
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        return [[index] for index in range(len(windows))]

    def encode(self, windows: Sequence[Window]) -> list[np.ndarray]:
        return [self._encode(window) for window in windows]

    def _encode(self, window: Window) -> np.ndarray:
        if len(window.samples) == FULL:
            self.inside.set()
            assert self.go_on.wait(WAIT_S)
            self.full += 1
        return np.full((1, 4), len(window.samples), np.float32)

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(embeddings)[None]


class Instance:
    """Calls `execute` in the order of the requests, one call at a time, and hands over what it returns."""

    def __init__(self, model: Any):
        self.model = model
        self._one = threading.Lock()

    def ask(self, request: Request) -> threading.Thread:
        thread = threading.Thread(target=self._call, args=(request,))
        thread.start()
        return thread

    def _call(self, request: Request) -> None:
        with self._one:
            for response in self.model.execute([request]) or []:
                request.sender.send(response, flags=1)


@pytest.fixture
def encoder() -> Gated:
    return Gated()


@pytest.fixture
def instance(tmp_path: Path, encoder: Gated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    limits = LIMITS.model_copy(update={"max_audio_tokens": 15_000})
    manifest(limits=limits).write(tmp_path)
    MetricFamily.values.clear()
    monkeypatch.setattr("af3.encoder.choose.AudioEncoder.load", lambda *words: encoder)
    settings = {"provider": "CPUExecutionProvider", "threads": 1, "embedding_cache_mib": 1, "niceness": 0}
    model = load_model("audio_encoder", tmp_path, in_turns=True, **settings)
    yield Instance(model)
    encoder.go_on.set()
    model.finalize()


def clip(request_id: str, *lengths: int) -> Request:
    pcm = np.zeros((1, len(lengths), max(lengths, default=0)), np.float32)
    pcm += len(request_id)  # another clip than that of an id of another length
    return Request(
        {
            "pcm": pcm,
            "pcm_lengths": np.array([lengths], np.int32),
            "window_index": np.arange(len(lengths), dtype=np.int32)[None],
        },
        request_id,
    )


def ended(request: Request) -> bool:
    return request.sender.finals == 1


def until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it never came")


def test_a_clip_of_half_a_second_waits_for_two_windows_of_a_ten_minute_clip_at_most(
    instance: Instance, encoder: Gated
) -> None:
    long, short = clip("long", *[FULL] * 20), clip("s", SHORT)
    seen: list[int] = []
    send = short.sender.send
    short.sender.send = lambda *words, **named: (seen.append(encoder.full), send(*words, **named))[1]  # type: ignore[method-assign]
    calls = [instance.ask(long)]
    assert encoder.inside.wait(WAIT_S)
    calls.append(instance.ask(short))
    calls[1].join(0.5)  # with one call after the other it cannot even begin
    encoder.go_on.set()
    until(lambda: ended(short) and ended(long))
    assert seen[0] <= 2
    assert short.sender.responses[0].tensors["prompt_embedding_table"][0, :, 0].tolist() == [SHORT]
    assert long.sender.responses[0].tensors["prompt_embedding_table"].shape == (1, 20, 4)
    for call in calls:
        call.join(WAIT_S)


def test_a_request_without_audio_waits_for_nobody(instance: Instance, encoder: Gated) -> None:
    call = instance.ask(clip("long", *[FULL] * 3))
    assert encoder.inside.wait(WAIT_S)
    silent = clip("")
    instance.ask(silent).join(WAIT_S)
    assert ended(silent)
    assert silent.sender.responses[0].tensors == {} and silent.sender.responses[0].error is None
    assert not encoder.full
    encoder.go_on.set()
    call.join(WAIT_S)


def test_a_stop_frees_the_encoder_within_one_window(instance: Instance, encoder: Gated) -> None:
    long = clip("long", *[FULL] * 20)
    instance.ask(long)
    assert encoder.inside.wait(WAIT_S)
    stop = Request(
        {tensor.name: value for tensor, value in stop_values(contract.AUDIO_ENCODER).items()}, "long"
    )
    instance.ask(stop).join(WAIT_S)
    assert ended(stop) and stop.sender.responses[0].error is None
    encoder.go_on.set()
    until(lambda: ended(long))
    assert long.error.startswith("CANCELLED")
    assert encoder.full == 1
    after = clip("a", SHORT)
    instance.ask(after)
    until(lambda: ended(after))
    assert after.sender.responses[0].error is None


def test_a_broken_request_is_refused_and_the_next_is_answered(instance: Instance) -> None:
    bad, good = clip("bad", SHORT), clip("g", SHORT)
    bad.tensors["pcm_lengths"] = np.array([[SHORT + 1]], np.int32)
    for request in (bad, good):
        instance.ask(request)
    until(lambda: ended(bad) and ended(good))
    assert bad.error.startswith("INVALID_ARGUMENT: pcm_lengths")
    assert good.sender.responses[0].error is None


def test_a_client_that_is_gone_harms_no_other(instance: Instance) -> None:
    gone, good = clip("gone", SHORT), clip("g", SHORT)
    gone.sender.broken = True
    for request in (gone, good):
        instance.ask(request)
    until(lambda: ended(good))
