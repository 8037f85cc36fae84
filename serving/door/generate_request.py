"""The JSON of KServe's generate extension ⇄ the messages of the relay.

Every key that is an input of the ensemble is an input, every other key a request parameter; `parameters` may hold more
of them, and `id` is the client's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from af3 import contract
from af3.errors import RequestError, invalid
from serving.door.clip_store import elements
from serving.door.json_body import MAX_DEPTH, LongString, too_deep, utf8
from serving.door.request_check import ENSEMBLES, SHOWN
from serving.door.wire_request import Piece, WireRequest, written

ID = "id"
NESTED = "parameters"
SCALARS = {tensor.name for tensor in contract.TTS.outputs if tensor.dims == (1,)}
Element = Piece | tuple[Piece, ...]  # in pieces: of a clip that gets something in front
NUMPY = {"INT32": "<i4", "INT16": "<i2"}


def to_request(model: str, given: dict[str, Any]) -> tuple[WireRequest, str]:
    """The message, and the client's id ("" for none). Raises RequestError. To be called in a thread."""
    request = service_pb2.ModelInferRequest(model_name=model)
    contents: list[list[Piece]] = []
    given = dict(given)
    client_id = given.pop(ID, None)
    if not isinstance(client_id, str | None):
        raise invalid(f"id: {_shown(client_id)} is not a string; put it in quotes")
    nested = given.pop(NESTED, None)
    nested = {} if nested is None else nested
    if not isinstance(nested, dict):
        raise invalid(f"parameters: {_shown(nested)} is not a JSON object")
    if twice := given.keys() & nested.keys():
        raise invalid(f"'{min(twice)[:SHOWN]}' stands in the body and in its parameters; send it once")
    for tensor in ENSEMBLES[model].inputs:
        elements = _ELEMENTS[tensor]
        value = given.pop(tensor.name, None)
        if value is not None and (values := elements(value)):
            request.inputs.add(name=tensor.name, datatype="BYTES", shape=[len(values)])
            contents.append(_content(values))
    for name, value in {**given, **nested}.items():
        if value is not None:
            _set_parameter(request, name, value)
    return written(request, contents), client_id or ""


def to_json(response: service_pb2.ModelInferResponse, client_id: str) -> bytes:
    """One response as a JSON object. Tensors of one fixed element are that element, all others are lists."""
    found: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if client_id:
        found[ID] = client_id
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        values = _values(output.datatype, raw)
        found[output.name] = values[0] if output.name in SCALARS and len(values) == 1 else values
    # ASCII, so that half of a surrogate pair in the client's id comes back as it was sent.
    return json.dumps(found).encode()


def error_json(error: RequestError) -> bytes:
    return json.dumps({"error": f"{error.status}: {error.message}"}).encode()


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        values: list[Any] = np.frombuffer(raw, NUMPY[datatype]).tolist()
        return values
    return [bytes(text).decode("utf-8", "replace") for text in elements(raw)]


def _clips(value: object) -> list[Element]:
    clips = value if isinstance(value, list) else [value]
    if len(clips) > contract.MAX_CLIPS:
        raise invalid(f"audio: {len(clips)} clips, at most {contract.MAX_CLIPS} are heard in one request")
    return [_bytes(clip, f"audio[{place}]") for place, clip in enumerate(clips)]


def _prompt(value: object) -> list[Element]:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return [_bytes(value, "prompt")]


def _messages(value: object) -> list[Element]:
    if isinstance(value, str | LongString):
        return [_bytes(value, "messages")]
    return [utf8(json.dumps(_plain(value, MAX_DEPTH), ensure_ascii=False), "messages")]


def _text(value: object) -> list[Element]:
    return [_bytes(value, "text")]


_ELEMENTS: Mapping[contract.Tensor, Callable[[object], list[Element]]] = {
    contract.AUDIO: _clips,
    contract.PROMPT: _prompt,
    contract.MESSAGES: _messages,
    contract.TEXT: _text,
}


def _bytes(value: object, name: str) -> Element:
    if isinstance(value, LongString):
        return value.as_bytes()
    if isinstance(value, bytes | memoryview | tuple):  # of a translator whose clips are no JSON
        return value
    if not isinstance(value, str):
        raise invalid(f"{name}: {_shown(value)} is not a string")
    return utf8(value, name)


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, LongString):
        return value.as_text()
    if depth == 0:
        raise too_deep()
    if isinstance(value, dict):
        return {key: _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return value


def _content(elements: list[Element]) -> list[Piece]:
    """On the wire a BYTES tensor is each element's length (4 bytes, little endian) and the element."""
    found: list[Piece] = []
    for element in elements:
        pieces = element if isinstance(element, tuple) else (element,)
        found += [sum(map(len, pieces)).to_bytes(4, "little"), *pieces]
    return found


def _set_parameter(request: service_pb2.ModelInferRequest, name: str, value: object) -> None:
    """A request parameter of Triton is one string, whole number, float or truth value; a list of strings is JSON."""
    parameter = request.parameters[utf8(name, "a key").decode()]
    if isinstance(value, LongString):
        value = value.as_text()
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise invalid(f"parameter '{name[:SHOWN]}': {value} is not a 64-bit number")
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = utf8(value, f"parameter '{name[:SHOWN]}'").decode()
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        parameter.string_param = utf8(
            json.dumps(value, ensure_ascii=False), f"parameter '{name[:SHOWN]}'"
        ).decode()
    else:
        raise invalid(
            f"parameter '{name[:SHOWN]}': {_shown(value)} is not a string, a number, true, false or a list of strings"
        )


def _shown(value: object) -> str:
    """A value in a sentence, cut short; only of values that JSON can hold."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'JSON object'}"
    return json.dumps(value)[:SHOWN] if not isinstance(value, LongString) else "a long string"
