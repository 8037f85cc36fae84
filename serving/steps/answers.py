"""The `postprocess` step inside Triton: tokens taken from requests, deltas sent, idle answers swept.

A token that waits for the next one keeps its request open: where no other comes, it leaves through that one.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.outputs.postprocessor import Delta, Postprocessor
from af3.pace import LONGEST_WAIT_S
from af3.stall import Clock, StallWatch
from af3.stop import stop_values
from serving.steps import adapter
from serving.steps.prompt_sizes import PromptSize, PromptSizes
from serving.steps.settings import PostprocessSettings

SWEEPS_PER_IDLE_TIME = 4


class Answers:
    """All answers in flight; for one execute thread."""

    def __init__(self, settings: PostprocessSettings, clock: Clock | None = None):
        """clock: what measures how long a token waits."""
        most = math.inf if settings.most_responses_per_s is None else settings.most_responses_per_s
        self._postprocessor = Postprocessor.load(settings.engine_dir, stop_llm, settings.idle_s, most)
        self._live = adapter.gauge("af3_answers_live", "Answers that hold state in postprocess")
        self._cancelled = adapter.counter("af3_answers_cancelled", "Answers stopped because the client left")
        self._sizes = PromptSizes()
        self._reported = 0, 0
        self._reporting = threading.Lock()
        self._closed = threading.Event()
        self._open: dict[str, Any] = {}  # request id → sender of the request whose tokens wait
        self._order = threading.Lock()  # an answer's responses leave in the order of its tokens
        self._watch = StallWatch(LONGEST_WAIT_S, self._let_go, clock or Clock(), "held-tokens")
        every_s = settings.idle_s / SWEEPS_PER_IDLE_TIME
        threading.Thread(target=self._sweep, args=(every_s,), name="sweep", daemon=True).start()

    def take(self, request: Any) -> None:
        """Answer one response of the LLM: with a delta, with nothing but the final flag, or with an error."""
        with self._order:
            self._take(request, request.get_response_sender())

    def _take(self, request: Any, sender: Any) -> None:
        name = request.request_id()
        try:
            delta = self._push(request)
            response = None if delta is None else adapter.response(self._tensors(name, delta))
        except Exception as error:
            response = adapter.failure(error)
        self._finish(self._open.pop(name, None))
        if response is not None:
            self._watch.forget(name)
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        elif self._postprocessor.holds(name):
            self._open[name] = sender
            self._watch.touch(name)
        else:
            self._finish(sender)

    def _let_go(self, name: str) -> None:
        """No token has come for LONGEST_WAIT_S: those that wait leave alone."""
        with self._order:
            sender = self._open.pop(name, None)
            if sender is None:
                return
            delta = self._postprocessor.held(name)
            if delta is not None:
                self._send(sender, adapter.response(self._tensors(name, delta)))
            else:
                self._finish(sender)

    def _finish(self, sender: Any | None) -> None:
        if sender is not None:
            self._send(sender, None)

    def _send(self, sender: Any, response: Any) -> None:
        try:
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:  # its client has gone; the answer of the request at hand must not fail with it
            adapter.log.exception("a response could not be sent")

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
        self._watch.close()
        for name in list(self._open):
            self._finish(self._open.pop(name))

    def _tensors(self, name: str, delta: Delta) -> dict[str, np.ndarray]:
        size = self._sizes.take(name) if delta.finish_reason else None
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
