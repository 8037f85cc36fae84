"""What is sent to a step to stop the request with the same id."""

from __future__ import annotations

import numpy as np

from af3.contract import STOP, Step, Tensor

_NUMPY = {"INT32": np.int32, "BOOL": np.bool_, "STRING": np.object_}


def stop_values(step: Step) -> dict[Tensor, np.ndarray]:
    """`stop`, and as little as can be of the step's other inputs: one zero or one empty text each.

    Shapes are [1], or [1, 1] for a step whose dims Triton prefixes with the batch.
    """
    shape = (1, 1) if step.batched else (1,)
    return {
        tensor: np.ones(shape, np.bool_) if tensor is STOP else _empty(tensor, shape)
        for tensor in step.inputs
        if not tensor.optional or tensor is STOP
    }


def _empty(tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.dtype == "STRING":
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, _NUMPY[tensor.dtype])
