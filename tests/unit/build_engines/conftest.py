"""Quantised checkpoints, written once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from build_engines.source.quantised import Method
    from tests.support.packed_checkpoint import Written


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[Method, Written]:
    from build_engines.source.quantised import METHODS
    from tests.support import packed_checkpoint as packed
    from tests.support.engines import random_checkpoint

    source = random_checkpoint()
    return {
        method: packed.write(source, tmp_path_factory.mktemp(method), method, zeros=method != "gptq")
        for method in METHODS
    }


@pytest.fixture
def copied(written: dict[Method, Written], tmp_path: Path) -> Callable[[Method], Path]:
    """A copy to break."""
    return lambda method: shutil.copytree(written[method].packed, tmp_path / "packed")
