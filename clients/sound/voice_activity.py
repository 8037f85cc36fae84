"""Detects speech with the Silero voice activity model (silero/LICENSE: MIT) on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioFlamingoError

HZ = 16000
FRAME_SAMPLES = 512  # the one length that the model reads
FRAME_MS = 1000 * FRAME_SAMPLES // HZ  # 32
CONTEXT_SAMPLES = 64  # of the frame before
MODEL = Path(__file__).with_name("silero") / "silero_vad_16k.onnx"  # from silero-vad 6.2.3, opset 15

Frame = NDArray[np.int16]


def load_model() -> Any:
    """The model, which any number of `VoiceActivity` share. Raises AudioFlamingoError without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            "a microphone needs ONNX Runtime, to hear when somebody speaks; `pip install onnxruntime`,"
            " or install the client as `.[mic]`",
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(MODEL, options, ["CPUExecutionProvider"])


class VoiceActivity:
    """The model's state for one microphone."""

    def __init__(self, model: Any = None) -> None:
        """model: of `load_model`; None loads one, and raises as it does."""
        self._model = load_model() if model is None else model
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)

    def __call__(self, frame: Frame) -> float:
        """frame: int16 [512] at 16 kHz, the one after the last. Returns the probability of speech, 0 to 1."""
        samples = np.concatenate([self._context, frame.astype(np.float32) / 32768])
        inputs = {"input": samples[np.newaxis], "state": self._state, "sr": np.array(HZ, np.int64)}
        probability, self._state = self._model.run(None, inputs)
        self._context = samples[-CONTEXT_SAMPLES:]
        return float(probability[0, 0])
