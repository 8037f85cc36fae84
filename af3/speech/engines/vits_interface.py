"""The three graphs of a VITS voice, whichever engine runs them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Each has one input; from one to the next the number of frames is not known before it has run.
TEXT, FLOW, DECODER = GRAPHS = ("text", "flow", "decoder")


class Graphs(Protocol):
    def run(self, name: str, values: NDArray[Any]) -> list[NDArray[np.float32]]:
        """One of GRAPHS on its input → its outputs, in the order of the graph. From several threads."""
        ...
