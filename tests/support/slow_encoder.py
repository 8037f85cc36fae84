"""A model repository whose encoder takes its time over a whole window, as the real weights do on a CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

from serving.host.triton import MODEL_REPOSITORY

# Only over windows of more than 25 s: probes and short clips stay quick.
SLOW = """

import time
from af3.encoder.onnx_encoder import AudioEncoder
_encode_batch = AudioEncoder.encode_batch


def _slowly(self, windows):
    if max(len(window.samples) for window in windows) > 400_000:
        time.sleep({seconds})
    return _encode_batch(self, windows)


AudioEncoder.encode_batch = _slowly
"""


def slowed(folder: Path, window_s: float) -> Path:
    """A copy of the model repository in `folder`."""
    models = folder / "models"
    shutil.copytree(MODEL_REPOSITORY, models)
    with (models / "audio_encoder" / "1" / "model.py").open("a") as file:
        file.write(SLOW.format(seconds=window_s))
    return models
