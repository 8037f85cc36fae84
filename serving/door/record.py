"""What is remembered of one request while it is answered: for metrics and for its one line in the log."""

from __future__ import annotations

import re
import time

from tritonclient.grpc import service_pb2

from af3 import contract
from serving import journal
from serving.door.admission import PUBLIC_MODELS
from serving.door.metrics import DoorMetrics

TOKEN_COUNT = re.compile(rb'"token_count":(\d+)')


class Record:
    """One request. Holds sizes and times, never text or audio."""

    def __init__(self, protocol: str, model: str = "", request_id: str = "", request_bytes: int = 0):
        self.protocol = protocol
        # A name of the client's own must not become a label: labels live for ever.
        self.model = model if model in PUBLIC_MODELS else "other"
        self.request_id = request_id
        self.request_bytes = request_bytes
        self.status = "OK"
        self.tokens = 0
        self.speech_s = 0.0
        self.first_token_s: float | None = None
        self.first_audio_s: float | None = None
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def take(self, message: service_pb2.ModelStreamInferResponse) -> None:
        """Note what a response brings."""
        outputs = message.infer_response.outputs
        raw = dict(
            zip((output.name for output in outputs), message.infer_response.raw_output_contents, strict=False)
        )
        if contract.TOKEN_COUNT.name in raw:
            self.first_token_s = self.first_token_s or self.elapsed_s
            self.tokens = int.from_bytes(raw[contract.TOKEN_COUNT.name], "little")
        if contract.SPEECH.name in raw:
            self.first_audio_s = self.first_audio_s or self.elapsed_s
            hz = int.from_bytes(raw[contract.SAMPLE_RATE.name], "little")
            self.speech_s += len(raw[contract.SPEECH.name]) / 2 / hz

    def take_text(self, block: bytes) -> None:
        """Note what a block of an HTTP answer brings: the count so far is in every event."""
        counts = TOKEN_COUNT.findall(block)
        if counts:
            self.first_token_s = self.first_token_s or self.elapsed_s
            self.tokens = int(counts[-1])

    def book(self, metrics: DoorMetrics) -> None:
        """Count the request, now that it has ended, and log it."""
        elapsed_s = self.elapsed_s
        metrics.requests.add(self.status)
        metrics.upload.add(self.model, self.request_bytes)
        metrics.tokens.add(self.model, self.tokens)
        if self.status == "OK":
            metrics.duration.observe(elapsed_s)
        if self.status == "CANCELLED":
            metrics.cancelled.add(self.model)
        if self.first_token_s is not None:
            metrics.first_token.observe(self.first_token_s)
        if self.first_audio_s is not None:
            metrics.first_audio.observe(self.first_audio_s)
            metrics.speech.add(self.model, self.speech_s)
        journal.write(
            "request",
            id=self.request_id[: contract.MAX_REQUEST_ID],
            protocol=self.protocol,
            model=self.model,
            status=self.status,
            request_bytes=self.request_bytes,
            tokens=self.tokens,
            speech_s=round(self.speech_s, 2),
            first_token_ms=_ms(self.first_token_s),
            first_audio_ms=_ms(self.first_audio_s),
            ms=_ms(elapsed_s),
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
