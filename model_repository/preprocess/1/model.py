import json
import os

from af3 import contract
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.prepare import Preprocessor
from serving.audio_usage import UsageSender
from serving.heartbeat import Heart
from serving.steps import adapter
from serving.steps.prompt_sizes import PromptSizes, prompt_size
from serving.steps.settings import PreprocessSettings


class TritonPythonModel:
    """Audio files and a prompt or messages in; PCM windows, token ids and sampling tensors out."""

    def initialize(self, args):
        settings = PreprocessSettings.from_config(json.loads(args["model_config"]))
        os.nice(settings.niceness)
        self._heart = Heart("preprocess")
        self._usage = UsageSender()
        self._preprocessor = Preprocessor.load(settings.engine_dir)
        self._sizes = PromptSizes()
        self._heard = adapter.counter("af3_audio_seconds", "Seconds of audio that were asked about")

    def execute(self, requests):
        return [adapter.answer(request, self._prepare, "preprocess") for request in requests]

    def finalize(self):
        self._preprocessor.close()

    def _prepare(self, request):
        files = adapter.array(request, contract.AUDIO)
        with self._heart.at_work():
            tensors = self._preprocessor.prepare(
                request.request_id(),
                adapter.parameters(request),
                [] if files is None else [bytes(file) for file in files],
                adapter.text(request, contract.PROMPT),
                adapter.text(request, contract.MESSAGES),
            )
        self._sizes.tell(request.request_id(), prompt_size(tensors))
        seconds = tensors[contract.PCM_LENGTHS.name].sum() / SAMPLE_RATE
        self._heard.increment(seconds)
        self._usage.tell(request.request_id(), seconds)
        return tensors
