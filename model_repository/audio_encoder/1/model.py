from pathlib import Path

import numpy as np

from af3 import contract
from af3.encoder import AudioEncoder
from serving import adapter


class TritonPythonModel:
    """PCM windows in, one table of audio embeddings out; nothing for a request without audio."""

    def initialize(self, args):
        settings = adapter.settings(args)
        self._encoder = AudioEncoder.load(
            Path(settings["engine_dir"]) / "audio_encoder", settings["provider"], int(settings["threads"])
        )

    def execute(self, requests):
        return [adapter.answer(request, self._encode) for request in requests]

    def _encode(self, request):
        pcm = adapter.array(request, contract.PCM)[0]
        lengths = adapter.array(request, contract.PCM_LENGTHS)[0]
        if len(lengths) == 0:
            return {}
        windows = [row[:length] for row, length in zip(pcm, lengths, strict=True)]
        table = np.concatenate(self._encoder.encode(windows))
        return {contract.PROMPT_EMBEDDING_TABLE.name: table[None]}
