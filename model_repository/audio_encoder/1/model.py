import os
from pathlib import Path

from af3 import contract
from af3.encoder.choose import load_encoder
from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.windows import windows_of
from af3.manifest import Manifest
from serving.steps import adapter


class TritonPythonModel:
    """PCM windows in, one table of audio embeddings out; nothing for a request without audio."""

    def initialize(self, args):
        settings = adapter.settings(args)
        engine_dir = Path(settings["engine_dir"])
        os.nice(int(settings["niceness"]))  # before the engine starts threads, which inherit it
        encoder = load_encoder(engine_dir / "audio_encoder", settings["provider"], int(settings["threads"]))
        manifest = Manifest.read(engine_dir)
        self._limits = manifest.limits
        identity = f"{manifest.checkpoint.sha256} {manifest.precision.audio_encoder}"
        self._encoder = CachedEncoder(encoder, identity, int(settings["embedding_cache_mib"]) << 20)
        self._hits = adapter.counter("af3_embedding_cache_hits", "Audio windows that skipped the encoder")
        self._misses = adapter.counter("af3_embedding_cache_misses", "Audio windows that were encoded")
        self._bytes = adapter.gauge("af3_embedding_cache_bytes", "Embeddings kept for later questions")
        self._reported = 0, 0

    def execute(self, requests):
        responses = [adapter.answer(request, self._encode, "audio_encoder") for request in requests]
        self._report()
        return responses

    def _encode(self, request):
        inputs = [adapter.array(request, tensor)[0] for tensor in contract.AUDIO_ENCODER.inputs]
        windows = windows_of(*inputs, self._limits)
        if not windows:
            return {}
        return {contract.PROMPT_EMBEDDING_TABLE.name: self._encoder.table(windows)}

    def _report(self):
        counts = self._encoder.hits, self._encoder.misses
        self._hits.increment(counts[0] - self._reported[0])
        self._misses.increment(counts[1] - self._reported[1])
        self._bytes.set(self._encoder.bytes)
        self._reported = counts
