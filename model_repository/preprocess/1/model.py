import os
from pathlib import Path

from af3 import contract
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.prepare import Preprocessor
from serving.steps import adapter


class TritonPythonModel:
    """Audio files and a prompt or messages in; PCM windows, token ids and sampling tensors out."""

    def initialize(self, args):
        settings = adapter.settings(args)
        os.nice(int(settings["niceness"]))
        self._preprocessor = Preprocessor.load(Path(settings["engine_dir"]))
        self._heard = adapter.counter("af3_audio_seconds", "Seconds of audio that were asked about")

    def execute(self, requests):
        return [adapter.answer(request, self._prepare, "preprocess") for request in requests]

    def _prepare(self, request):
        files = adapter.array(request, contract.AUDIO)
        tensors = self._preprocessor.prepare(
            request.request_id(),
            adapter.parameters(request),
            [] if files is None else [bytes(file) for file in files],
            adapter.text(request, contract.PROMPT),
            adapter.text(request, contract.MESSAGES),
        )
        if files is not None:
            self._heard.increment(tensors[contract.PCM_LENGTHS.name].sum() / SAMPLE_RATE)
        return tensors
