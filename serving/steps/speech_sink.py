"""Sends the speech of one response through Triton; the metrics of the `tts` model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.speech.meter import SegmentReport
from af3.speech.speech_outputs import SpeechBlock
from serving.steps import adapter


class SpeechSink:
    """The `af3.speech.speech_outputs.Sink` of one request to the model."""

    def __init__(self, request: Any):
        self._sender = request.get_response_sender()
        self._cancelled = request.is_cancelled()

    def cancelled(self) -> bool:
        # Once the LLM has ended, Triton no longer tells the steps that a client has left; the door sends `stop` then.
        return self._cancelled or self._sender.is_cancelled()

    def pass_on(self, tensors: Mapping[str, np.ndarray | None]) -> None:
        """Send the text at once, with what else there is."""
        given = {name: value for name, value in tensors.items() if value is not None}
        self._send(adapter.response(given))

    def send(self, block: SpeechBlock) -> None:
        tensors: dict[str, np.ndarray] = {
            contract.SPEECH.name: block.pcm,
            contract.SAMPLE_RATE.name: np.array([block.sample_rate], np.int32),
        }
        if block.source:
            tensors[contract.SPEECH_TEXT.name] = np.array([block.source.encode()], np.object_)
        self._send(adapter.response(tensors))

    def fail(self, message: str) -> None:
        self._send(adapter.response({contract.SPEECH_ERROR.name: np.array([message.encode()], np.object_)}))

    def refuse(self, error: Exception) -> None:
        """End with an error instead of an answer."""
        self._send(adapter.failure(error), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finish(self) -> None:
        self._send(None, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _send(self, response: Any, flags: int = 0) -> None:
        try:
            self._sender.send(response, flags)
        except Exception:  # the thread's other requests must not fail with this one
            adapter.log.exception("a response could not be sent")


class SpeechMetrics:
    """The `Observer` of the `tts` model: its metrics, updated once a segment, not once a block."""

    def __init__(self) -> None:
        self._live = adapter.gauge("af3_speech_live", "Answers that hold state in tts")
        self._first = adapter.histogram(
            "af3_speech_first_audio_seconds", "From the text of an answer's first segment to its first speech"
        )
        self._gap = adapter.histogram(
            "af3_speech_gap_seconds", "Longest time between two blocks of a segment"
        )
        self._segments = adapter.counter("af3_speech_segments", "Segments spoken")
        self._audio = adapter.counter("af3_speech_audio_seconds", "Speech sent, in seconds of audio")
        self._compute = adapter.counter(
            "af3_speech_compute_seconds",
            "Time to make the speech; divided by the audio it is the real-time factor",
        )
        self._underruns = adapter.counter(
            "af3_speech_underruns", "Segments during which a client that plays at once ran out of audio"
        )
        self._fallbacks = adapter.counter(
            "af3_speech_fallbacks", "Answers that went on with the instant voice: theirs could not keep up"
        )
        self._failures = adapter.counter("af3_speech_failures", "Answers whose voice failed")

    def live(self, count: int) -> None:
        self._live.set(count)

    def failed(self) -> None:
        self._failures.increment(1)

    def fell_back(self) -> None:
        self._fallbacks.increment(1)

    def segment(self, report: SegmentReport) -> None:
        self._segments.increment(1)
        self._audio.increment(report.audio_s)
        self._compute.increment(report.compute_s)
        self._gap.observe(report.longest_gap_s)
        if report.underrun:
            self._underruns.increment(1)
        if report.first_of_request:
            self._first.observe(report.latency_s)
