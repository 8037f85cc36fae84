"""What a GPU needs before the server starts: the engines that the configs name, and proof that they
belong here.
"""

from __future__ import annotations

import re
from pathlib import Path

from af3.manifest import Manifest
from serving.host.triton import MODEL_REPOSITORY
from serving.machine import gpu
from serving.machine.engine_check import require_match

LLM_CONFIG = MODEL_REPOSITORY / "llm" / "configs" / "gpu.pbtxt"


BF16_BYTES = 2
CUDA_POOL = "--cuda-memory-pool-byte-size"


def prepare(engines: Path) -> tuple[str, ...]:
    """Check `engines/<target>` and link it to where the configs look; tritonserver's options for these engines.

    Raises ManifestError.
    """
    manifest = require_match(engines, gpu.find().identity, call_batch())
    gpu.link_engines(engines)
    return (cuda_pool(manifest),)


def cuda_pool(manifest: Manifest) -> str:
    """Triton's pool in GPU memory: the audio of every running request on its way to the LLM.

    What does not fit goes through the host instead, and stalls every answer for 10 to 20 ms; Triton's own 64 MB hold
    six minutes of audio.
    """
    limits = manifest.limits
    row_bytes = manifest.model.hidden_size * BF16_BYTES
    return f"{CUDA_POOL}=0:{limits.max_batch_size * limits.max_audio_tokens * row_bytes}"


def call_batch() -> int:
    """`max_batch_size` of the LLM's config."""
    found = re.search(r"^max_batch_size: (\d+)$", LLM_CONFIG.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None  # a contract test reads the same line
    return int(found[1])
