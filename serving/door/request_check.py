"""Checks a request before Triton sees it: the model, and the names and number of its inputs, outputs and parameters.

Values are the business of the steps, but for the size of texts: a tokenizer takes 200 bytes of memory for each of their
bytes. Triton 2.51 takes quadratic time over many inputs, and repeats names in its sentences; so only the ensembles' own
names, each once, are let through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError, invalid, refuse_unless_one
from serving.door.admission import Limits

InputTensor: TypeAlias = service_pb2.ModelInferRequest.InferInputTensor
ENSEMBLES = {
    ensemble.name: ensemble
    for ensemble in (contract.AUDIO_FLAMINGO, contract.AUDIO_FLAMINGO_SPEECH, contract.SPEECH_ALONE)
}
PUBLIC_MODELS = tuple(ENSEMBLES)
MAX_PARAMETERS = 32
MAX_DIMENSIONS = 8  # of an input; the ensembles' have one
LENGTH_BYTES = 4  # before an element of raw_input_contents
TEXTS = frozenset(tensor.name for tensor in (contract.PROMPT, contract.MESSAGES, contract.TEXT))
# Triton takes these out of a request, and nothing here heeds them.
WITHOUT_EFFECT = frozenset("binary_data_output id priority sequence_end sequence_id sequence_start".split())
SHOWN = 64  # characters of a name that are repeated to the client


def check(request: service_pb2.ModelInferRequest, contents: Sequence[memoryview], client_id: str) -> None:
    """Raise RequestError for a request that Triton must not see. contents: its raw_input_contents."""
    refuse_inner_model(request.model_name)
    refuse_other_version(request.model_version)
    if len(client_id) > contract.MAX_REQUEST_ID:
        raise invalid(
            f"the request id has {len(client_id)} characters, at most {contract.MAX_REQUEST_ID} are kept"
        )
    ensemble = ENSEMBLES[request.model_name]
    _check_names("input", request.inputs, {tensor.name for tensor in ensemble.inputs})
    _check_names("output", request.outputs, {tensor.name for tensor in ensemble.outputs})
    if len(request.parameters) > MAX_PARAMETERS:
        raise invalid(f"more than {MAX_PARAMETERS} parameters; send fewer")
    for name, parameter in request.parameters.items():
        _check_parameter(name, parameter.string_param)
    for tensor in request.inputs:
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise invalid(f"input '{tensor.name}' has {len(tensor.shape)} dimensions; send it with one")
    if len(contents) > len(request.inputs):
        raise invalid(
            f"{len(contents)} raw_input_contents for {len(request.inputs)} inputs; send one for each"
        )
    if ensemble is not contract.SPEECH_ALONE:
        given = {tensor.name for tensor in request.inputs}
        refuse_unless_one(contract.PROMPT.name in given, contract.MESSAGES.name in given)
    for place, tensor in enumerate(request.inputs):
        if tensor.name in TEXTS:
            _refuse_long_text(tensor, contents[place : place + 1])


def refuse_inner_model(name: str) -> None:
    """Raise RequestError for a model that only the ensembles may call."""
    if name not in ENSEMBLES:
        raise RequestError(
            "NOT_FOUND",
            f"model '{name[:SHOWN]}' is not served to clients; ask {' or '.join(PUBLIC_MODELS)}",
        )


def refuse_other_version(version: str) -> None:
    """Raise RequestError for another version of a model than the one there is."""
    if version not in ("", "1"):
        raise RequestError(
            "NOT_FOUND", f"version '{version[:SHOWN]}' is not served; leave it out, or ask for 1"
        )


def allowed_s(limits: Limits, transport_s: float | None, request: service_pb2.ModelInferRequest) -> float:
    """Seconds the request may take: the least of the limit, the call's own deadline and the parameter `timeout`.

    Raises RequestError for a `timeout` that is no positive number of microseconds.
    """
    given = [limits.timeout_s, transport_s]
    if "timeout" in request.parameters:
        microseconds = whole_number(request.parameters["timeout"])
        if microseconds is None or microseconds <= 0:
            found = "no whole number" if microseconds is None else microseconds
            raise invalid(f"parameter 'timeout': {found}; must be a positive number of microseconds")
        given.append(microseconds / 1e6)
    return min(seconds for seconds in given if seconds is not None)


def whole_number(parameter: service_pb2.InferParameter) -> int | None:
    """None for a parameter of another kind."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else None


def bytes_of(tensor: InputTensor, raw: Sequence[memoryview]) -> int:
    """The size of a text. raw: its part of raw_input_contents; empty where the tensor holds its contents itself."""
    inside = sum(map(len, tensor.contents.bytes_contents))
    return inside + sum(len(content) - LENGTH_BYTES for content in raw)


def _refuse_long_text(tensor: InputTensor, raw: Sequence[memoryview]) -> None:
    size = bytes_of(tensor, raw)
    if size > contract.MAX_TEXT_BYTES:
        raise invalid(
            f"{tensor.name}: {size} bytes, more than the {contract.MAX_TEXT_BYTES} of text that one request may hold;"
            " shorten it or drop old turns, and send clips in audio"
        )


def _check_parameter(name: str, text: str) -> None:
    if name in WITHOUT_EFFECT:
        raise invalid(f"parameter '{name}' has no effect here; leave it out")
    if "\0" in name + text:  # Triton reads C strings: it would take what stands before for the whole
        shown = name.replace("\0", "\\0")[:SHOWN]
        raise invalid(f"parameter '{shown}': a NUL character in it or in its name; leave the character out")


def _check_names(kind: str, tensors: Iterable[InputTensor], known: Collection[str]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name not in known:
            raise invalid(f"{kind} '{tensor.name[:SHOWN]}' is unknown; known are {', '.join(sorted(known))}")
        if tensor.name in seen:
            raise invalid(f"{kind} '{tensor.name}' stands twice; send it once")
        if len(tensor.parameters):
            raise invalid(
                f"{kind} '{tensor.name}' has parameters of its own, such as shared memory; send its contents"
            )
        seen.add(tensor.name)
