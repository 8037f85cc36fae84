"""Shared by every model.py: reads tensors, and answers with tensors or errors."""

from __future__ import annotations

import ctypes
import json
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

from af3.contract import Tensor
from af3.encoder.device_array import DeviceArray
from af3.errors import RequestError, invalid
from serving import journal

Input = TypeVar("Input")

log = logging.getLogger("af3")
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

# Names, not values: Triton adds its classes to pb_utils only after model.py has been imported.
TRITON_CODES = {
    "INVALID_ARGUMENT": "INVALID_ARG",
    "UNAVAILABLE": "UNAVAILABLE",
    "NOT_FOUND": "NOT_FOUND",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "FAILED_PRECONDITION": "INVALID_ARG",
    "UNIMPLEMENTED": "UNSUPPORTED",
    "CANCELLED": "CANCELLED",
    "DEADLINE_EXCEEDED": "UNAVAILABLE",  # Triton has no code of its own for a deadline
    "RESOURCE_EXHAUSTED": "UNAVAILABLE",
    "INTERNAL": "INTERNAL",
}


def array(request: Any, tensor: Tensor) -> np.ndarray | None:
    """An input of a request, or None when an optional one is absent."""
    found = pb_utils.get_input_tensor_by_name(request, tensor.name)
    return None if found is None else found.as_numpy()


def required(request: Any, tensor: Tensor) -> np.ndarray:
    """An input of a request. Raises RequestError when it is absent."""
    value = array(request, tensor)
    if value is None:
        raise invalid(f"{tensor.name}: missing")
    return value


def present(request: Any, tensors: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Those of these inputs that a request has."""
    found = {tensor.name: array(request, tensor) for tensor in tensors}
    return {name: value for name, value in found.items() if value is not None}


def text(request: Any, tensor: Tensor) -> str | None:
    """A text input, or None when it is absent. Raises RequestError for what is no UTF-8."""
    value = array(request, tensor)
    if value is None:
        return None
    try:
        return value[0].decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(f"{tensor.name}: not UTF-8 text") from None


def parameters(request: Any) -> dict[str, Any]:
    """The request parameters, which reach every step of an ensemble."""
    return json.loads(request.parameters() or "{}")


def response(tensors: Mapping[str, np.ndarray | DeviceArray]) -> Any:
    """A response with these outputs; the others are left out. A DeviceArray stays where it is."""
    return pb_utils.InferenceResponse([_output(name, value) for name, value in tensors.items()])


def _output(name: str, value: np.ndarray | DeviceArray) -> Any:
    if isinstance(value, DeviceArray):
        return pb_utils.Tensor.from_dlpack(name, value)
    return pb_utils.Tensor(name, value)


def failure(error: Exception) -> Any:
    """A response that tells the client what it may know.

    A RequestError is meant for the client. Anything else is a fault of ours: the client gets a reference
    number, the log the traceback. The status stands in the sentence too: Triton's streams carry a real gRPC
    status only when the client sends `triton_grpc_error: true`, and Triton 2.51 may crash of that header
    (server #7368, fixed in later releases).
    """
    if isinstance(error, RequestError):
        code = getattr(pb_utils.TritonError, TRITON_CODES[error.status])
        triton_error = pb_utils.TritonError(f"{error.status}: {error.message}", code)
    else:
        reference = secrets.token_hex(4)
        log.error("internal error %s", reference, exc_info=error)
        triton_error = pb_utils.TritonError(
            f"INTERNAL: internal error, reference {reference}", pb_utils.TritonError.INTERNAL
        )
    return pb_utils.InferenceResponse(error=triton_error)


def answer(
    request: Any,
    compute: Callable[[Any], Mapping[str, np.ndarray | DeviceArray]],
    stage: str | None = None,
    began_s: float | None = None,
) -> Any:
    """The response of a step that gives one for one: the tensors `compute` returns, or its error.

    `stage`: its name in the journal; None for a step that is called at every token. `began_s`: on the monotonic clock,
    where it began before this call.
    """
    began_s = time.monotonic() if began_s is None else began_s
    status = "OK"
    try:
        return response(compute(request))
    except Exception as error:
        status = error.status if isinstance(error, RequestError) else "INTERNAL"
        return failure(error)
    finally:
        if stage is not None and journal.enabled():
            ms = round(1000 * (time.monotonic() - began_s), 1)
            journal.write("stage", id=request.request_id(), stage=stage, status=status, ms=ms)


def answer_together(
    requests: Sequence[Any],
    read: Callable[[Any], Input],
    compute: Callable[[Sequence[Input]], Sequence[Mapping[str, np.ndarray | DeviceArray]]],
    stage: str,
) -> list[Any]:
    """The responses of a step that computes for all of its requests at once, one for each.

    `read`: what a request brings; one that is refused does not reach `compute`. Where that fails for several together
    (memory that each alone would have had), each is computed alone, so that nobody fails for another's request.
    """
    began_s = time.monotonic()
    inputs: dict[int, Input] = {}
    errors: dict[int, Exception] = {}
    for place, request in enumerate(requests):
        try:
            inputs[place] = read(request)
        except Exception as error:
            errors[place] = error
    outputs: dict[int, Mapping[str, np.ndarray | DeviceArray]] = {}
    if len(inputs) > 1:
        try:
            outputs = dict(zip(inputs, compute(list(inputs.values())), strict=True))
        except Exception:
            log.warning("%d requests could not be computed together; each alone", len(inputs), exc_info=True)

    def one(place: int) -> Mapping[str, np.ndarray | DeviceArray]:
        if place in errors:
            raise errors[place]
        return outputs[place] if place in outputs else compute([inputs[place]])[0]

    return [
        answer(request, lambda _, place=place: one(place), stage, began_s)  # type: ignore[misc]
        for place, request in enumerate(requests)
    ]


def gauge(name: str, description: str) -> Metric:
    """A Prometheus gauge on the server's /metrics."""
    return _metric(name, description, pb_utils.MetricFamily.GAUGE)


def counter(name: str, description: str) -> Metric:
    """A Prometheus counter on the server's /metrics."""
    return _metric(name, description, pb_utils.MetricFamily.COUNTER)


BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0]


def histogram(name: str, description: str) -> Metric:
    """A Prometheus histogram of seconds on the server's /metrics."""
    return _metric(name, description, pb_utils.MetricFamily.HISTOGRAM, buckets=BUCKETS_S)


class Metric:
    """A metric of Triton's that any thread may change, at the cost of a round trip to the server.

    Triton's own object keeps the message of the call it is in: two threads in it at once free each other's, and the
    server dies of it (Triton 2.51: segmentation fault, bad_alloc).
    """

    def __init__(self, metric: Any):
        self._metric = metric
        self._lock = threading.Lock()

    def set(self, value: float) -> None:
        with self._lock:
            self._metric.set(value)

    def increment(self, value: float) -> None:
        with self._lock:
            self._metric.increment(value)

    def observe(self, value: float) -> None:
        with self._lock:
            self._metric.observe(value)


def _metric(name: str, description: str, kind: Any, **options: Any) -> Metric:
    family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
    metric = family.Metric(labels={}, **options)
    for kept in (family, metric):
        _never_collected(kept)
    return Metric(metric)


def _never_collected(kept: Any) -> None:
    """Triton forgets a metric whose family has been collected, and the end of the interpreter collects both.

    By then the stub has no more connection to Triton: it would end with a segmentation fault (Triton 2.51).
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
