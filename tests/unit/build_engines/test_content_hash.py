"""Large files are read once, and read again when they change."""

import hashlib
import os
from pathlib import Path

import pytest

from build_engines.source import content_hash as module
from build_engines.source.content_hash import content_hash


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large, and what is remembered is forgotten after the test."""
    monkeypatch.setattr(module, "REMEMBERED_FROM_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def test_a_file_is_read_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content_hash(weights)
    assert first == hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(module, "hash_file", pytest.fail)
    assert content_hash(weights) == first


def test_a_changed_file_is_read_again(weights: Path) -> None:
    before = weights.stat()
    content_hash(weights)
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert content_hash(weights) == hashlib.sha256(b"WEIGHTS").hexdigest()


def test_a_file_of_the_hub_cache_is_not_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "blobs" / ("5a" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"gigabytes")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    monkeypatch.setattr(module, "hash_file", pytest.fail)
    assert content_hash(link) == "5a" * 32
