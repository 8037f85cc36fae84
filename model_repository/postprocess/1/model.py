import threading
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.outputs.postprocessor import Postprocessor
from serving.steps import adapter

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """New token ids in, a text delta out; stops the LLM when the answer is no longer wanted."""

    def initialize(self, args):
        settings = adapter.settings(args)
        idle_s = float(settings["idle_s"])
        self._postprocessor = Postprocessor.load(
            Path(settings["engine_dir"]), self._stop_llm, idle_s, float(settings["most_responses_per_s"])
        )
        self._live = adapter.gauge("af3_answers_live", "Answers that hold state in postprocess")
        self._cancelled = adapter.counter("af3_answers_cancelled", "Answers stopped because the client left")
        self._reported = 0, 0
        self._reporting = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, args=(idle_s / 4,), daemon=True).start()

    def execute(self, requests):
        for request in requests:
            self._take(request, request.get_response_sender())
        self._report()

    def finalize(self):
        self._closed.set()

    def _sweep(self, every_s):
        while not self._closed.wait(every_s):
            self._postprocessor.forget_idle()
            self._report()

    def _report(self):
        with self._reporting:
            counts = self._postprocessor.live, self._postprocessor.cancelled
            # A metric costs a round trip to the server, and this runs at every token.
            if counts == self._reported:
                return
            self._live.set(counts[0])
            self._cancelled.increment(counts[1] - self._reported[1])
            self._reported = counts

    def _take(self, request, sender):
        try:
            delta = self._push(request)
            response = None if delta is None else adapter.response(_tensors(delta))
        except Exception as error:
            response = adapter.failure(error)
        if response is None:
            sender.send(flags=FINAL)
        else:
            sender.send(response, FINAL)

    def _push(self, request):
        return self._postprocessor.push(
            request.request_id(),
            lambda: adapter.parameters(request),
            adapter.array(request, contract.OUTPUT_IDS).reshape(-1).tolist(),
            request.is_cancelled,
        )

    def _stop_llm(self, request_id):
        stop = {
            contract.INPUT_IDS.name: np.zeros((1, 1), np.int32),
            contract.INPUT_LENGTHS.name: np.zeros((1, 1), np.int32),
            contract.REQUEST_OUTPUT_LEN.name: np.zeros((1, 1), np.int32),
            contract.STOP.name: np.ones((1, 1), bool),
        }
        request = pb_utils.InferenceRequest(
            model_name=contract.LLM.name,
            request_id=request_id,
            inputs=[pb_utils.Tensor(name, value) for name, value in stop.items()],
            requested_output_names=[tensor.name for tensor in contract.LLM.outputs],
        )
        for _ in request.exec(decoupled=True):
            pass


def _tensors(delta):
    return {
        contract.TEXT.name: np.array([delta.text.encode()], np.object_),
        contract.FINISH_REASON.name: np.array([delta.finish_reason.encode()], np.object_),
        contract.TOKEN_COUNT.name: np.array([delta.token_count], np.int32),
        contract.INDEX.name: np.array([delta.index], np.int32),
        contract.TOKEN_IDS.name: np.array(delta.token_ids, np.int32),
    }
