import json
import threading

import triton_python_backend_utils as pb_utils

from af3 import contract
from af3.llm.decoder import Decoder
from af3.llm.generation import generation, stop_requested
from af3.llm.scheduler import Scheduler
from af3.manifest import Manifest
from serving.heartbeat import Heart
from serving.steps import adapter
from serving.steps.settings import LlmSettings
from serving.steps.stream import Stream


class TritonPythonModel:
    """The TensorRT-LLM backend's contract on a CPU: token ids and a prompt table in, new tokens out."""

    def initialize(self, args):
        settings = LlmSettings.from_config(json.loads(args["model_config"]))
        limits = Manifest.read(settings.engine_dir).limits
        folder = settings.engine_dir / "llm"
        decoder = Decoder(folder, settings.slots, limits.max_sequence_tokens, settings.threads)
        heart = Heart("llm")
        running = adapter.gauge("af3_llm_running", "Sequences that hold a slot of the KV cache")
        waiting = adapter.gauge("af3_llm_waiting", "Requests that wait for a slot")
        threads = adapter.gauge("af3_llm_threads", "Python threads of the LLM process")

        def report(running_count, waiting_count):
            running.set(running_count)
            waiting.set(waiting_count)
            threads.set(threading.active_count())

        def turned(busy):
            (heart.moved if busy else heart.idle)()

        self._scheduler = Scheduler(decoder, settings.max_queue, settings.prefill_tokens, report, turned)

    def execute(self, requests):
        for request in requests:
            self._take(request, request.get_response_sender())

    def finalize(self):
        self._scheduler.close()

    def _take(self, request, sender):
        try:
            tensors = {tensor.name: adapter.array(request, tensor) for tensor in contract.LLM.inputs}
            if stop_requested(tensors):
                self._scheduler.stop(request.request_id())
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                return
            wanted = generation(request.request_id(), tensors, request.timeout())
            self._scheduler.submit(wanted, Stream(sender, request.request_id()))
        except Exception as error:
            sender.send(adapter.failure(error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
