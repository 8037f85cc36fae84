"""A checkpoint in llama.cpp's format, written by llama.cpp's own program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from perf.peers.environments import LAUNCHERS, VENVS, PeerError, python_of

CACHE = Path(".cache/peers")


def gguf(checkpoint: Path) -> tuple[Path, Path]:
    """The checkpoint in llama.cpp's format, LLM and encoder; converted once, by llama.cpp's own program.

    Raises PeerError.
    """
    paths = tuple(CACHE / f"{checkpoint.name}-{part}.gguf" for part in ("llm", "encoder"))
    for path, extra in zip(paths, ((), ("--mmproj",)), strict=True):
        _convert(checkpoint, path, "f32", *extra)
    return paths[0], paths[1]


def q4_gguf(checkpoint: Path, path: Path) -> None:
    """The checkpoint's LLM in llama.cpp's Q4_0 at `path`; converted once. Raises PeerError."""
    _convert(checkpoint, path, "q4_0")


def _convert(checkpoint: Path, path: Path, weights: str, *extra: str) -> None:
    newest = max(file.stat().st_mtime for file in checkpoint.iterdir())
    if path.exists() and path.stat().st_mtime > newest:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = VENVS / "llama.cpp"
    converter = (str(LAUNCHERS / "to_gguf.py"), str(source), str(checkpoint))
    done = subprocess.run(
        [python_of("transformers"), *converter, "--outtype", weights, "--outfile", str(path), *extra],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        path.unlink(missing_ok=True)
        raise PeerError(f"llama.cpp could not convert {checkpoint}: {done.stderr[-500:]}")
