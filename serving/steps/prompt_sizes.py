"""How many tokens a prompt has: told by `preprocess`, which counts them, to `postprocess`, which ends the answer.

An ensemble hands no tensor past its decoupled LLM but the LLM's own, and the LLM's are TensorRT-LLM's. So the numbers
of a request lie in a small file in shared memory until its last response takes them away.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from af3 import contract

VARIABLE = "AF3_PROMPT_SIZES"  # beginning of the files' paths; without it nothing is told
NUMBERS = struct.Struct("=ii")
KEPT_S = 7200.0  # longer than any answer takes


@dataclass(frozen=True)
class PromptSize:
    """`audio_tokens` of the `tokens` are those of the clips."""

    tokens: int
    audio_tokens: int


def prompt_size(tensors: Mapping[str, np.ndarray]) -> PromptSize:
    """Of what `preprocess` gives the LLM: audio tokens are those with a hash of their clip."""
    return PromptSize(
        int(tensors[contract.INPUT_LENGTHS.name].sum()),
        int(np.count_nonzero(tensors[contract.PROMPT_TABLE_EXTRA_IDS.name])),
    )


class PromptSizes:
    """By request id. What cannot be written, on a full /dev/shm, is not told; no request fails of it."""

    def __init__(self, prefix: str | None = None):
        self._prefix = os.environ.get(VARIABLE) if prefix is None else prefix

    def tell(self, request_id: str, size: PromptSize) -> None:
        if self._prefix is None:
            return
        with suppress(OSError):
            handle = os.open(self._path(request_id), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(handle, NUMBERS.pack(size.tokens, size.audio_tokens))
            finally:
                os.close(handle)

    def take(self, request_id: str) -> PromptSize | None:
        """What was told of the request, once."""
        if self._prefix is None:
            return None
        path = self._path(request_id)
        try:
            size = PromptSize(*NUMBERS.unpack(path.read_bytes()))
        except (OSError, struct.error):
            size = None
        with suppress(OSError):
            path.unlink()
        return size

    def forget_old(self) -> None:
        """Drop what belongs to answers that broke off."""
        if self._prefix is None:
            return
        beginning = Path(self._prefix)
        with suppress(OSError):
            for path in beginning.parent.glob(f"{beginning.name}*"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > KEPT_S:
                        path.unlink()

    def _path(self, request_id: str) -> Path:
        """An id is a client's own where it comes to Triton directly, and no file name."""
        return Path(f"{self._prefix}{hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()}")
