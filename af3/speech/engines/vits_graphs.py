"""Runs the three graphs of a VITS voice on the engine that `provider` in the config names, as for the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from af3.encoder.interface import TENSORRT
from af3.speech.engines.vits_interface import GRAPHS, Graphs


class OnnxGraphs:
    """Runs the graphs on ONNX Runtime, from `<name>.onnx`."""

    def __init__(self, folder: Path, provider: str = "CPUExecutionProvider", threads: int = 1):
        options = onnxruntime.SessionOptions()
        # One thread per concurrent segment; a lone segment uses all of them.
        options.intra_op_num_threads = threads
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # the LLM needs the cores too
        options.enable_mem_pattern = (
            False  # a pattern is kept per shape, and nearly every segment is a new one
        )
        self._sessions = {
            name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=[provider])
            for name in GRAPHS
        }

    def run(self, name: str, values: NDArray[Any]) -> list[NDArray[np.float32]]:
        session = self._sessions[name]
        found: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: values})
        return found


def load_graphs(folder: Path, provider: str, threads: int) -> Graphs:
    """Load from `engines/<target>/voice/`; `provider` and `threads` as for `af3.encoder.choose.load_encoder`."""
    if provider == TENSORRT:
        from af3.speech.engines.vits_tensorrt import TensorRTGraphs  # needs the pinned container

        return TensorRTGraphs(folder)
    return OnnxGraphs(folder, provider, threads)
