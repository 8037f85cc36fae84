"""What a GPU needs before the server starts: the engines that the configs name, and proof that they
belong here.
"""

from __future__ import annotations

import re
from pathlib import Path

from serving.host.triton import MODEL_REPOSITORY
from serving.machine import gpu
from serving.machine.engine_check import require_match

LLM_CONFIG = MODEL_REPOSITORY / "llm" / "configs" / "gpu.pbtxt"


def prepare(engines: Path) -> None:
    """Check `engines/<target>` and link it to where the configs look. Raises ManifestError."""
    require_match(engines, gpu.find().identity, call_batch())
    gpu.link_engines(engines)


def call_batch() -> int:
    """`max_batch_size` of the LLM's config."""
    found = re.search(r"^max_batch_size: (\d+)$", LLM_CONFIG.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None  # a contract test reads the same line
    return int(found[1])
