import json
import os

from af3 import contract
from af3.encoder.choose import load_encoder
from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.windows import windows_of
from af3.manifest import Manifest
from serving.heartbeat import Heart
from serving.steps import adapter
from serving.steps.settings import EncoderSettings


class TritonPythonModel:
    """PCM windows in, one table of audio embeddings out; nothing for a request without audio."""

    def initialize(self, args):
        settings = EncoderSettings.from_config(json.loads(args["model_config"]))
        os.nice(settings.niceness)  # before the engine starts threads, which inherit it
        self._heart = Heart("audio_encoder")
        folder = settings.engine_dir / "audio_encoder"
        encoder = load_encoder(folder, settings.provider, settings.threads, self._heart.moved)
        manifest = Manifest.read(settings.engine_dir)
        self._limits = manifest.limits
        identity = f"{manifest.checkpoint.sha256} {manifest.precision.audio_encoder}"
        self._encoder = CachedEncoder(encoder, identity, settings.embedding_cache_bytes)
        self._hits = adapter.counter("af3_embedding_cache_hits", "Audio windows that skipped the encoder")
        self._misses = adapter.counter("af3_embedding_cache_misses", "Audio windows that were encoded")
        self._bytes = adapter.gauge("af3_embedding_cache_bytes", "Embeddings kept for later questions")
        self._reported = 0, 0

    def execute(self, requests):
        with self._heart.at_work():
            responses = adapter.answer_together(requests, self._windows, self._tables, "audio_encoder")
        self._report()
        return responses

    def _windows(self, request):
        inputs = [adapter.array(request, tensor)[0] for tensor in contract.AUDIO_ENCODER.inputs]
        return windows_of(*inputs, self._limits)

    def _tables(self, requests):
        tables = iter(self._encoder.tables([windows for windows in requests if windows]))
        return [
            {contract.PROMPT_EMBEDDING_TABLE.name: next(tables)} if windows else {} for windows in requests
        ]

    def _report(self):
        counts = self._encoder.hits, self._encoder.misses
        self._hits.increment(counts[0] - self._reported[0])
        self._misses.increment(counts[1] - self._reported[1])
        self._bytes.set(self._encoder.bytes)
        self._reported = counts
