"""The `postprocess` step inside Triton: tokens taken from requests, deltas sent, idle answers swept."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.outputs.postprocessor import Delta, Postprocessor
from af3.stop import stop_values
from serving.steps import adapter
from serving.steps.prompt_sizes import PromptSize, PromptSizes
from serving.steps.settings import PostprocessSettings

SWEEPS_PER_IDLE_TIME = 4


class Answers:
    """All answers in flight; for one execute thread."""

    def __init__(self, settings: PostprocessSettings):
        self._postprocessor = Postprocessor.load(
            settings.engine_dir, stop_llm, settings.idle_s, settings.most_responses_per_s
        )
        self._live = adapter.gauge("af3_answers_live", "Answers that hold state in postprocess")
        self._cancelled = adapter.counter("af3_answers_cancelled", "Answers stopped because the client left")
        self._sizes = PromptSizes()
        self._reported = 0, 0
        self._reporting = threading.Lock()
        self._closed = threading.Event()
        every_s = settings.idle_s / SWEEPS_PER_IDLE_TIME
        threading.Thread(target=self._sweep, args=(every_s,), name="sweep", daemon=True).start()

    def take(self, request: Any) -> None:
        """Answer one response of the LLM: with a delta, with nothing but the final flag, or with an error."""
        sender = request.get_response_sender()
        try:
            delta = self._push(request)
            response = None if delta is None else adapter.response(self._tensors(request, delta))
        except Exception as error:
            response = adapter.failure(error)
        if response is None:
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        else:
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def report(self) -> None:
        """Update the metrics, if they have changed: each costs a round trip to the server."""
        with self._reporting:
            counts = self._postprocessor.live, self._postprocessor.cancelled
            if counts == self._reported:
                return
            self._live.set(counts[0])
            self._cancelled.increment(counts[1] - self._reported[1])
            self._reported = counts

    def close(self) -> None:
        self._closed.set()

    def _tensors(self, request: Any, delta: Delta) -> dict[str, np.ndarray]:
        size = self._sizes.take(request.request_id()) if delta.finish_reason else None
        return _tensors(delta) | ({} if size is None else _size_tensors(size))

    def _push(self, request: Any) -> Delta | None:
        return self._postprocessor.push(
            request.request_id(),
            lambda: adapter.parameters(request),
            adapter.required(request, contract.OUTPUT_IDS).reshape(-1).tolist(),
            request.is_cancelled,
        )

    def _sweep(self, every_s: float) -> None:
        while not self._closed.wait(every_s):
            self._postprocessor.forget_idle()
            self._sizes.forget_old()
            self.report()


def stop_llm(request_id: str) -> None:
    """Ask the LLM to end a request, and wait until it knows."""
    request = pb_utils.InferenceRequest(
        model_name=contract.LLM.name,
        request_id=request_id,
        inputs=[pb_utils.Tensor(tensor.name, value) for tensor, value in stop_values(contract.LLM).items()],
        requested_output_names=[tensor.name for tensor in contract.LLM.outputs],
    )
    for _ in request.exec(decoupled=True):
        pass


def _tensors(delta: Delta) -> dict[str, np.ndarray]:
    tensors = {
        contract.TEXT.name: np.array([delta.text.encode()], np.object_),
        contract.FINISH_REASON.name: np.array([delta.finish_reason.encode()], np.object_),
        contract.TOKEN_COUNT.name: np.array([delta.token_count], np.int32),
        contract.INDEX.name: np.array([delta.index], np.int32),
        contract.TOKEN_IDS.name: np.array(delta.token_ids, np.int32),
    }
    if delta.thinking:  # an output more costs every response of every model
        tensors[contract.THINKING.name] = np.array([delta.thinking.encode()], np.object_)
    return tensors


def _size_tensors(size: PromptSize) -> dict[str, np.ndarray]:
    return {
        contract.PROMPT_TOKENS.name: np.array([size.tokens], np.int32),
        contract.AUDIO_TOKENS.name: np.array([size.audio_tokens], np.int32),
    }
