from pathlib import Path

from af3 import contract
from af3.encoders import load_encoder
from serving import adapter


class TritonPythonModel:
    """PCM windows in, one table of audio embeddings out; nothing for a request without audio."""

    def initialize(self, args):
        settings = adapter.settings(args)
        self._encoder = load_encoder(
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
        return {contract.PROMPT_EMBEDDING_TABLE.name: self._encoder.table(windows)}
