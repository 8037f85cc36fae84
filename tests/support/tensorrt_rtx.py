"""Real TensorRT on a CPU: TensorRT for RTX parses ONNX files and builds engines without a GPU (it runs them on one).

It knows compute capability 7.5, 8.x and 12.x, so not the H100's kernels: what it proves is the graph, its types and
shapes, not the speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from af3.encoder.interface import TENSORRT_RTX_MODULE
from build_engines.encoder import rtx_build, tensorrt_build
from build_engines.encoder.rtx_build import Bounds, Built
from build_engines.targets.target import Target


def build(onnx: Path, profiles: Sequence[Bounds]) -> Built:
    """Parse and build. Raises BuildError with TensorRT's own words when it cannot."""
    pytest.importorskip(TENSORRT_RTX_MODULE, reason="TensorRT for RTX is not installed")
    return rtx_build.compile_engine(onnx, profiles)


def encoder_profiles(target: Target, placed: bool = False) -> list[Bounds]:
    """The profiles that Polygraphy is given for a target."""
    return rtx_build.bounds(tensorrt_build.profiles(target), placed)
