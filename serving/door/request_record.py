"""Records one request while it is answered, for the metrics and for its line in the journal."""

from __future__ import annotations

import time

from tritonclient.grpc import service_pb2

from af3 import contract
from serving import journal
from serving.door.caller import Caller
from serving.door.metrics import DoorMetrics, known_model


class RequestRecord:
    """One request. Holds sizes and times, never text or audio."""

    def __init__(
        self, caller: Caller, protocol: str, model: str, request_id: str, client_id: str, request_bytes: int
    ):
        """request_id: the door's own, under which the steps write their lines; client_id: what the client sent."""
        self.key = caller.name
        self.protocol = protocol
        self.model = known_model(model)
        self.request_id = request_id
        self.client_id = client_id
        self.request_bytes = request_bytes
        self.tokens = 0
        self.speech_s = 0.0
        self.audio_s = 0.0
        self.finished = False  # its text: the reason has come
        self.first_token_s: float | None = None
        self.first_audio_s: float | None = None
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def take(self, response: service_pb2.ModelInferResponse) -> None:
        """Note what a response brings."""
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
            if output.name == contract.TOKEN_COUNT.name:
                self.first_token_s = self.first_token_s or self.elapsed_s
                self.tokens = int.from_bytes(raw, "little")
            elif output.name == contract.FINISH_REASON.name:
                self.finished |= len(raw) > 4  # behind its length
            elif output.name == contract.SPEECH.name:
                self.first_audio_s = self.first_audio_s or self.elapsed_s
                hz = _rate(response)
                self.speech_s += len(raw) / 2 / hz if hz else 0.0

    def book(self, status: str, metrics: DoorMetrics) -> None:
        """Count the request, now that it has ended, and write its line."""
        elapsed_s = self.elapsed_s
        metrics.requests.add(status)
        metrics.upload.add(self.model, self.request_bytes)
        metrics.tokens.add(self.model, self.tokens)
        metrics.key_requests.add(self.key)
        metrics.key_tokens.add(self.key, self.tokens)
        if status == "OK":
            metrics.duration.observe(elapsed_s)
        if status == "CANCELLED":
            metrics.cancelled.add(self.model)
        if self.first_token_s is not None:
            metrics.first_token.observe(self.first_token_s)
        if self.first_audio_s is not None:
            metrics.first_audio.observe(self.first_audio_s)
            metrics.speech.add(self.model, self.speech_s)
        journal.write(
            "request",
            id=self.request_id,
            client_id=self.client_id[: contract.MAX_REQUEST_ID],
            **({"key": self.key} if self.key else {}),
            protocol=self.protocol,
            model=self.model,
            status=status,
            request_bytes=self.request_bytes,
            audio_s=round(self.audio_s, 2),
            tokens=self.tokens,
            speech_s=round(self.speech_s, 2),
            first_token_ms=_ms(self.first_token_s),
            first_audio_ms=_ms(self.first_audio_s),
            ms=_ms(elapsed_s),
        )


def _rate(response: service_pb2.ModelInferResponse) -> int:
    """Hz of the speech in a response; 0 when the client did not ask for that output."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == contract.SAMPLE_RATE.name:
            return int.from_bytes(raw, "little")
    return 0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
