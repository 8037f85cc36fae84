"""Finds the Python interpreter for worker processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def python_program() -> str:
    """Path of a Python interpreter; inside Triton, `sys.executable` is Triton's stub."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return shutil.which("python3") or "python3"
