"""Replaces `llm` while the path after it is measured: an LLM that costs nothing.

Triton loads it as a model.py. It sends `request_output_len` tokens to each request in turns and as fast as it can,
through the real step's `Stream`. Like the real LLM it stops on `stop` with the same request id.
"""

import json
import threading

import triton_python_backend_utils as pb_utils

from af3 import contract
from serving.steps import adapter
from serving.steps.settings import LlmSettings
from serving.steps.stream import Stream, Streams

TOKEN = 40


class TritonPythonModel:
    """Sends made-up tokens in the TensorRT-LLM backend's contract."""

    def initialize(self, args):
        settings = LlmSettings.from_config(json.loads(args["model_config"]))
        self._streams = Streams(settings.most_responses_per_s, settings.least_gap_ms / 1000)
        self._left = {}  # request id → (stream, tokens still to send)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def execute(self, requests):
        for request in requests:
            sender, name = request.get_response_sender(), request.request_id()
            with self._changed:
                if adapter.array(request, contract.STOP) is not None:
                    self._stop(name)
                    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                    continue
                tokens = int(adapter.array(request, contract.REQUEST_OUTPUT_LEN)[0, 0])
                self._left[name] = Stream(sender, name, self._streams, tokens), tokens
                self._changed.notify()

    def finalize(self):
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._streams.close()

    def _stop(self, name):
        if name in self._left:
            self._left[name] = self._left[name][0], 0

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left or self._closed)
                if self._closed:
                    return
                turn = list(self._left.items())
            for name, (stream, left) in turn:
                self._send(name, stream, left)

    def _send(self, name, stream, left):
        final = left <= 1
        stream.tokens([TOKEN] if left else [], final)
        with self._changed:
            if final:
                del self._left[name]
            elif self._left[name][1]:  # not stopped in the meantime
                self._left[name] = stream, left - 1
