"""CUDA's Multi-Process Service: the encoder's kernels and the LLM's run side by side instead of in turns.

Encoder and LLM are two processes. Without MPS the GPU gives its time to one of them at once, so that every stream
stands still while a clip is encoded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.address import ServerError

PROGRAM = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
TIMEOUT_S = 20


@contextmanager
def shared_gpu(wanted: bool) -> Iterator[None]:
    """Start the daemon of our own for what is started inside, which finds it by the environment; end it afterwards.

    Nothing where it is not wanted. Raises ServerError where it cannot be started.
    """
    if not wanted:
        yield
        return
    if shutil.which(PROGRAM) is None:
        raise ServerError(
            f"--mps: there is no {PROGRAM} here; it comes with NVIDIA's driver, or serve without --mps"
        )
    with tempfile.TemporaryDirectory(prefix="af3-mps-") as folder:
        added = {PIPES: str(Path(folder) / "pipes"), LOGS: str(Path(folder) / "logs")}
        for path in added.values():
            Path(path).mkdir()
        before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        try:
            _control(["-d"], None)
            yield
        finally:
            _control([], "quit\n", failing=False)
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _control(words: list[str], said: str | None, failing: bool = True) -> None:
    try:
        done = subprocess.run(
            [PROGRAM, *words], input=said, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    else:
        reason = (
            "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or f"code {done.returncode}"
        )
    if reason and failing:
        raise ServerError(f"--mps: {PROGRAM} did not start: {reason}; serve without --mps")
