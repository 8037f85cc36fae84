"""The answers of the scheduler, sent as the TensorRT-LLM backend sends its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.errors import RequestError
from serving import journal
from serving.steps import adapter


class Stream:
    """Listener of one generation (`af3.llm.sequence.Listener`): every call is one response of the model."""

    def __init__(self, sender: Any, request_id: str):
        self._sender = sender
        self._request_id = request_id
        self._began_s = time.monotonic()
        self._first_s: float | None = None
        self._tokens = 0

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        self._tokens += len(ids)
        if self._first_s is None:
            self._first_s = time.monotonic() - self._began_s
        tensors = {
            contract.OUTPUT_IDS.name: np.array([[ids]], np.int32),
            contract.SEQUENCE_LENGTH.name: np.array([[len(ids)]], np.int32),
        }
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._send(adapter.response(tensors), flags)
        if final:
            self._note("OK")

    def failed(self, error: Exception) -> None:
        self._send(adapter.failure(error), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self._note(error.status if isinstance(error, RequestError) else "INTERNAL")

    def cancelled(self) -> bool:
        return self._sender.is_cancelled()

    def _note(self, status: str) -> None:
        journal.write(
            "stage",
            id=self._request_id,
            stage=contract.LLM.name,
            status=status,
            ms=round(1000 * (time.monotonic() - self._began_s), 1),
            first_token_ms=None if self._first_s is None else round(1000 * self._first_s, 1),
            tokens=self._tokens,
        )

    def _send(self, response: Any, flags: int) -> None:
        try:
            self._sender.send(response, flags)
        except Exception:  # the other sequences of the batch must not fall with this one
            adapter.log.exception("a response could not be sent")
