from pathlib import Path

from af3 import contract
from af3.errors import invalid
from af3.preprocess import Preprocessor
from serving import adapter


class TritonPythonModel:
    """Audio files and a prompt or messages in; PCM windows, token ids and sampling tensors out."""

    def initialize(self, args):
        self._preprocessor = Preprocessor.load(Path(adapter.settings(args)["engine_dir"]))

    def execute(self, requests):
        return [adapter.answer(request, self._prepare) for request in requests]

    def _prepare(self, request):
        files = adapter.array(request, contract.AUDIO)
        return self._preprocessor.prepare(
            request.request_id(),
            adapter.parameters(request),
            [] if files is None else [bytes(file) for file in files],
            _text(request, contract.PROMPT),
            _text(request, contract.MESSAGES),
        )


def _text(request, tensor):
    value = adapter.array(request, tensor)
    if value is None:
        return None
    try:
        return value[0].decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(f"{tensor.name}: not UTF-8 text") from None
