"""Builds the message that stops a request at one step of the server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tritonclient.grpc import service_pb2

from . import contract

# One empty string, a zero, true.
_RAW = {"STRING": bytes(4), "FP32": bytes(4), "INT32": bytes(4), "BOOL": b"\x01"}


class Input(Protocol):
    """An input of a step, as in `contract` and in the server's own contract."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> Sequence[int]: ...
    @property
    def optional(self) -> bool: ...


def stop_message(
    step: str, inputs: Iterable[Input], request_id: str, batched: bool = False
) -> service_pb2.ModelInferRequest:
    """`stop`, and one zero or empty string for every other required input of the step.

    Every dimension is 1; a batched step has one more.
    """
    message = service_pb2.ModelInferRequest(model_name=step, id=request_id)
    for tensor in inputs:
        if tensor.optional and tensor.name != contract.STOP.name:
            continue
        datatype = "BYTES" if tensor.dtype == "STRING" else tensor.dtype
        message.inputs.add(name=tensor.name, datatype=datatype, shape=[1] * (len(tensor.dims) + batched))
        message.raw_input_contents.append(_RAW[tensor.dtype])
    return message
