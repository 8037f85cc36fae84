"""The answers of the scheduler, sent as the TensorRT-LLM backend sends its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from serving import adapter


class Stream:
    """Listener of one generation (`af3.scheduler.Listener`): every call is one response of the model."""

    def __init__(self, sender: Any):
        self._sender = sender

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        tensors = {
            contract.OUTPUT_IDS.name: np.array([[ids]], np.int32),
            contract.SEQUENCE_LENGTH.name: np.array([[len(ids)]], np.int32),
        }
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._send(adapter.response(tensors), flags)

    def failed(self, error: Exception) -> None:
        self._send(adapter.failure(error), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def cancelled(self) -> bool:
        return self._sender.is_cancelled()

    def _send(self, response: Any, flags: int) -> None:
        try:
            self._sender.send(response, flags)
        except Exception:  # the other sequences of the batch must not fall with this one
            adapter.log.exception("a response could not be sent")
