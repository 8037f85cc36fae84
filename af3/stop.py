"""Builds the request that stops the one with the same id at a step."""

from __future__ import annotations

import numpy as np

from af3.contract import STOP, Step, Tensor

_NUMPY = {"INT32": np.int32, "BOOL": np.bool_, "STRING": np.object_}


def stop_values(step: Step) -> dict[Tensor, np.ndarray]:
    """Return `stop` and minimal values of the step's other required inputs: one zero or one empty text each.

    Shapes are [1], or [1, 1] for a batched step.
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
