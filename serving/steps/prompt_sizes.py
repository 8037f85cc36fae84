"""Passes the number of a prompt's tokens from `preprocess`, which counts them, to `postprocess`, which ends the answer.

An ensemble hands no tensor past its decoupled LLM but the LLM's own, and the LLM's are TensorRT-LLM's. So the numbers
of a request lie in a small file in shared memory until its last response takes them away.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from af3 import contract

VARIABLE = "AF3_PROMPT_SIZES"  # beginning of the files' paths; without it nothing is told
NUMBERS = struct.Struct("=ii")
KEPT_S = 7200.0  # longer than any answer takes
MOST = 8192  # files, a page of memory each: clients that leave take none of theirs away
SWEEP_EVERY = 512  # requests


@dataclass(frozen=True)
class PromptSize:
    """`audio_tokens` of the `tokens` are those of the clips."""

    tokens: int
    audio_tokens: int


def prompt_size(tensors: Mapping[str, np.ndarray]) -> PromptSize:
    """Count the tokens that `preprocess` gives the LLM: audio tokens are those with a hash of their clip."""
    return PromptSize(
        int(tensors[contract.INPUT_LENGTHS.name].sum()),
        int(np.count_nonzero(tensors[contract.PROMPT_TABLE_EXTRA_IDS.name])),
    )


class PromptSizes:
    """By request id. What cannot be written, on a full /dev/shm, is not told; no request fails of it."""

    def __init__(self, prefix: str | None = None):
        self._prefix = os.environ.get(VARIABLE) if prefix is None else prefix
        self._told = 0

    def tell(self, request_id: str, size: PromptSize) -> None:
        if self._prefix is None:
            return
        self._told += 1
        if self._told % SWEEP_EVERY == 0:
            self.forget_old()
        with suppress(OSError):
            handle = os.open(self._path(request_id), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(handle, NUMBERS.pack(size.tokens, size.audio_tokens))
            finally:
                os.close(handle)

    def take(self, request_id: str) -> PromptSize | None:
        """Return what was told about the request, and forget it."""
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
        """Drop what belongs to answers that broke off: what is too old, and the oldest of what is too much."""
        if self._prefix is None:
            return
        ages = sorted(self._ages_s())
        for place, (age_s, path) in enumerate(ages):
            if place >= MOST or age_s > KEPT_S:
                with suppress(OSError):
                    path.unlink()

    def _ages_s(self) -> Iterator[tuple[float, Path]]:
        beginning = Path(self._prefix or "")
        for path in beginning.parent.glob(f"{beginning.name}*"):
            with suppress(OSError):  # it has just been taken
                yield time.time() - path.stat().st_mtime, path

    def _path(self, request_id: str) -> Path:
        """An id is a client's own where it comes to Triton directly, and no file name."""
        return Path(f"{self._prefix}{hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()}")
