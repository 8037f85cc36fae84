import json
import os

from af3.encoder.choose import load_encoder
from af3.encoder.embedding_cache import CachedEncoder
from af3.manifest import Manifest
from serving.heartbeat import Heart
from serving.steps.encoding import encoding
from serving.steps.settings import EncoderSettings


class TritonPythonModel:
    """PCM windows in, one table of audio embeddings out; nothing for a request without audio."""

    def initialize(self, args):
        settings = EncoderSettings.from_config(json.loads(args["model_config"]))
        os.nice(settings.niceness)  # before the engine starts threads, which inherit it
        heart = Heart("audio_encoder")
        folder = settings.engine_dir / "audio_encoder"
        encoder = load_encoder(folder, settings.provider, settings.threads, heart.moved)
        manifest = Manifest.read(settings.engine_dir)
        identity = f"{manifest.checkpoint.sha256} {manifest.precision.audio_encoder}"
        cached = CachedEncoder(encoder, identity, settings.embedding_cache_bytes)
        self._encoding = encoding(settings.in_turns, cached, manifest.limits, heart)

    def execute(self, requests):
        return self._encoding.execute(requests)

    def finalize(self):
        self._encoding.close()
