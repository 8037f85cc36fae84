"""The three graphs of a VITS voice, whichever engine runs them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Each has one input. The number of frames is known only after the previous graph has run.
TEXT, FLOW, DECODER = GRAPHS = ("text", "flow", "decoder")


class Graphs(Protocol):
    def run(self, name: str, values: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run one of GRAPHS on its input; returns its outputs in order. Thread-safe."""
        ...
