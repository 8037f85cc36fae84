"""Caches the sha256 of large files, so that `make engines` reads a 16 GB checkpoint only once."""

import json
import os
from pathlib import Path

from build_engines.stage import hash_file

REMEMBERED_FROM_BYTES = 64 << 20


def content_hash(path: Path) -> str:
    """sha256 of a file; that of a large one is cached by path, size and modification time.

    Files in the hub cache need no reading: they link to blobs named by their hash.
    """
    target = path.resolve()
    if path.is_symlink() and len(target.name) == 64:
        return target.name
    status = target.stat()
    if status.st_size < REMEMBERED_FROM_BYTES:
        return hash_file(target)
    memory = _memory_path()
    known = json.loads(memory.read_text()) if memory.exists() else {}
    key = f"{target} {status.st_size} {status.st_mtime_ns}"
    if key not in known:
        known[key] = hash_file(target)
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(known, indent=2))
        draft.replace(memory)
    return known[key]


def cache_folder() -> Path:
    """What builds keep for the next one, of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "audio-flamingo-server"


def _memory_path() -> Path:
    return cache_folder() / "hashes.json"
