import json

import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.adapters import adapter_of
from af3.llm.choose import load_engine
from af3.llm.generation import generation, stop_requested
from af3.manifest import Manifest
from serving.steps import adapter
from serving.steps.llm_observer import LlmObserver
from serving.steps.settings import LlmSettings
from serving.steps.stream import Stream, Streams


class TritonPythonModel:
    """The TensorRT-LLM backend's contract: token ids and a prompt table in, new tokens out."""

    def initialize(self, args):
        settings = LlmSettings.from_config(json.loads(args["model_config"]))
        self._adapters = Manifest.read(settings.engine_dir).adapters
        self._streams = Streams(settings.most_responses_per_s, settings.least_gap_ms / 1000)
        self._engine = load_engine(settings, LlmObserver())

    def execute(self, requests):
        for request in requests:
            self._take(request, request.get_response_sender())

    def finalize(self):
        self._engine.close()
        self._streams.close()

    def _take(self, request, sender):
        try:
            tensors = {tensor.name: adapter.array(request, tensor) for tensor in contract.LLM.inputs}
            if stop_requested(tensors):
                self._engine.stop(request.request_id())
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                return
            lora = adapter_of(adapter.parameters(request), self._adapters)
            wanted = generation(request.request_id(), tensors, request.timeout(), lora)
            stream = Stream(sender, request.request_id(), self._streams, wanted.max_new_tokens)
            self._engine.submit(wanted, stream)
        except Exception as error:
            sender.send(adapter.failure(error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
