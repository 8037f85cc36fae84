"""Triton's `triton_python_backend_utils`, as far as the steps use it, and requests that keep what was sent.

`import tests.support.pb_utils_stand_in` before anything of `serving.steps`: it takes the module's place.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

NAME = "triton_python_backend_utils"
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
MODEL_REPOSITORY = Path(__file__).parents[2] / "model_repository"
_numbers = itertools.count()


class TritonError(Exception):
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class Tensor:
    def __init__(self, name: str, value: np.ndarray):
        self._name, self._value = name, value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._value


class InferenceResponse:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None):
        self.tensors = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.error = error


class InferenceRequest:
    """One that a step sends to another model; `sent` keeps them all."""

    sent: list[InferenceRequest] = []  # noqa: RUF012

    def __init__(self, **fields: Any):
        vars(self).update(fields)

    def exec(self, decoupled: bool = False) -> Iterator[InferenceResponse]:
        InferenceRequest.sent.append(self)
        return iter([InferenceResponse()])


class Sender:
    """Keeps what was sent; `broken`: sending raises, as it does when the client has gone."""

    def __init__(self) -> None:
        self.responses: list[InferenceResponse] = []
        self.finals = 0
        self.gone = False
        self.broken = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.broken:
            raise RuntimeError("the request is gone")
        assert not self.finals, "sent after the final flag"
        if response is not None:
            self.responses.append(response)
        self.finals += flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def is_cancelled(self) -> bool:
        return self.gone


class Request:
    """What `execute` is given."""

    def __init__(
        self,
        tensors: dict[str, np.ndarray],
        request_id: str = "id",
        timeout_us: int = 0,
        **parameters: object,
    ):
        self.tensors = tensors
        self.sender = Sender()
        self._id, self._timeout_us, self._parameters = request_id, timeout_us, json.dumps(parameters)

    def request_id(self) -> str:
        return self._id

    def parameters(self) -> str:
        return self._parameters

    def timeout(self) -> int:
        return self._timeout_us

    def is_cancelled(self) -> bool:
        return self.sender.gone

    def get_response_sender(self) -> Sender:
        return self.sender

    @property
    def error(self) -> str:
        """The sentence of the one error that was sent."""
        (response,) = self.sender.responses
        return str(response.error)


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    value = request.tensors.get(name)
    return None if value is None else Tensor(name, value)


class MetricFamily:
    """`values` holds every metric by its name, for all families."""

    COUNTER, GAUGE, HISTOGRAM = range(3)
    values: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, kind: int):
        self.name = name

    def Metric(self, labels: dict[str, str], **options: object) -> MetricFamily:
        MetricFamily.values.setdefault(self.name, 0)
        return self

    def set(self, value: float) -> None:
        MetricFamily.values[self.name] = value

    def increment(self, value: float) -> None:
        MetricFamily.values[self.name] += value

    def observe(self, value: float) -> None:
        MetricFamily.values[self.name] = value


def load_model(step: str, engine_dir: Path, **settings: object) -> Any:
    """`model_repository/<step>/1/model.py` as Triton loads it, initialized with these settings."""
    path = MODEL_REPOSITORY / step / "1" / "model.py"
    spec = importlib.util.spec_from_file_location(f"model_{step}_{next(_numbers)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config(step, engine_dir=engine_dir, **settings))})
    return model


def config(step: str, **settings: object) -> dict[str, object]:
    """A model configuration in Triton's JSON."""
    parameters = {name: {"string_value": str(value)} for name, value in settings.items()}
    return {"name": step, "parameters": parameters}


def _install() -> None:
    module = ModuleType(NAME)
    vars(module).update({name: value for name, value in globals().items() if not name.startswith("_")})
    sys.modules[NAME] = module


_install()
