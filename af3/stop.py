"""Builds the request that stops the one with the same id at a step."""

from __future__ import annotations

import numpy as np

from af3.contract import STOP, Step, Tensor

_NUMPY = {"FP32": np.float32, "INT32": np.int32, "BOOL": np.bool_, "STRING": np.object_}


def stop_values(step: Step) -> dict[Tensor, np.ndarray]:
    """Return `stop` and minimal values of the step's other required inputs: one zero or one empty text each.

    Every dimension is 1; a batched step has one more.
    """
    return {
        tensor: np.ones(_shape(step, tensor), np.bool_) if tensor is STOP else _empty(step, tensor)
        for tensor in step.inputs
        if not tensor.optional or tensor is STOP
    }


def _shape(step: Step, tensor: Tensor) -> tuple[int, ...]:
    return (1,) * (len(tensor.dims) + step.batched)


def _empty(step: Step, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "STRING":
        return np.full(_shape(step, tensor), b"", np.object_)
    return np.zeros(_shape(step, tensor), _NUMPY[tensor.dtype])
