"""A question → the message that goes to the server. Shared by the sync and the asyncio client."""

from __future__ import annotations

import json
import numbers
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from tritonclient.grpc import service_pb2
from typing_extensions import TypedDict

from . import contract
from .errors import AudioFlamingoError
from .sound.samples import Samples, wav
from .stop_message import stop_message

DEFAULT_URL = os.environ.get("AUDIO_FLAMINGO_URL", "127.0.0.1:8001")
DEFAULT_MODEL = contract.AUDIO_FLAMINGO
DEFAULT_TIMEOUT_S = 600.0
DEADLINE_GRACE_S = 1.0
LONGEST_TIMEOUT_S = 86_400.0  # a day; the server allows less
STOP_TIMEOUT_S = 10.0  # of a request that ends the speech of another

# gRPC's own limit is 4 MB; ten minutes of 48 kHz stereo are 115 MB.
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))

# A path, the bytes of a whole file (or of a base64 `data:` URI), or samples in memory.
Clip: TypeAlias = str | os.PathLike[str] | bytes | Samples
Audio: TypeAlias = Clip | Sequence[Clip]
Message: TypeAlias = Mapping[str, Any]


class Parameters(TypedDict, total=False):
    """Parameters of an answer. One that is left out has the server's default (greedy); the server checks ranges."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    stop: str | Sequence[str]
    think: bool
    read_cut_short: bool
    adapter: str
    voice: str
    rate: float


def prompt_request(
    model: str,
    audio: Audio,
    prompt: str,
    timeout_s: float | None,
    request_id: str | None,
    parameters: Parameters,
) -> service_pb2.ModelInferRequest:
    """All clips first, then the text, as one user turn.

    Raises AudioFlamingoError for what cannot be sent: a file that cannot be read, samples or parameters of
    the wrong type.
    """
    return _request(model, audio, contract.PROMPT, prompt, timeout_s, request_id, parameters)


def messages_request(
    model: str,
    messages: Sequence[Message],
    audio: Audio,
    timeout_s: float | None,
    request_id: str | None,
    parameters: Parameters,
) -> service_pb2.ModelInferRequest:
    """A conversation; each part `{"type": "audio"}` takes the next clip. Raises as above."""
    text = _as_json(list(messages), "messages")
    return _request(model, audio, contract.MESSAGES, text, timeout_s, request_id, parameters)


def deadline_s(timeout_s: float | None) -> float | None:
    """gRPC's deadline: a little after the one the server is told of, whose error says more.

    Raises AudioFlamingoError for what is no time or longer than gRPC can wait.
    """
    if timeout_s is not None and not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            f"timeout: {timeout_s:g} s is no time to wait; give seconds above 0, at most {LONGEST_TIMEOUT_S:g}",
        )
    return None if timeout_s is None else timeout_s + DEADLINE_GRACE_S


def stop_speech_request(request_id: str) -> service_pb2.ModelInferRequest:
    """The message that stops the speech of a request: it goes to `tts` alone."""
    return stop_message(contract.TTS, contract.TTS_INPUTS, request_id)


def _request(
    model: str,
    audio: Audio,
    text_input: contract.Tensor,
    text: str,
    timeout_s: float | None,
    request_id: str | None,
    parameters: Parameters,
) -> service_pb2.ModelInferRequest:
    deadline_s(timeout_s)  # refused before any file is read
    message = service_pb2.ModelInferRequest(model_name=model, id=request_id or uuid.uuid4().hex)
    files = [_file_bytes(clip, f"audio[{place}]") for place, clip in enumerate(_clips(audio))]
    if files:
        _add_input(message, contract.AUDIO, files)
    _add_input(message, text_input, [_utf8(text, text_input.name)])
    for name, value in parameters.items():
        if value is not None:
            _set_parameter(message, name, value)
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    if timeout_s is not None:
        message.parameters["timeout"].int64_param = round(timeout_s * 1e6)
    return message


def _clips(audio: Audio) -> Sequence[Clip]:
    several = isinstance(audio, Iterable) and not isinstance(audio, (str, bytes, bytearray, memoryview))
    if several and not isinstance(audio, os.PathLike) and not hasattr(audio, "__array__"):
        return list(cast(Iterable[Clip], audio))
    return [cast(Clip, audio)]  # right or wrong: an array is no row of clips


def _file_bytes(clip: Clip, name: str) -> bytes:
    if isinstance(clip, (bytes, bytearray, memoryview)):
        return bytes(clip)
    if not isinstance(clip, (str, os.PathLike, Samples)):
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            f"{name}: a {type(clip).__name__} is no clip; give a path, the bytes of a file, or numbers with"
            " their rate: Samples(values, hz)",
        )
    if isinstance(clip, Samples):
        return wav(clip, name)
    try:
        return Path(clip).read_bytes()
    except OSError as error:
        raise AudioFlamingoError("INVALID_ARGUMENT", f"{name}: {clip}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise AudioFlamingoError("INVALID_ARGUMENT", f"{name}: {clip!r}: {error}") from None


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, from a JSON escape or a broken argument
        raise AudioFlamingoError(
            "INVALID_ARGUMENT", f"{name}: character {error.start} cannot be written as UTF-8"
        ) from None


def _add_input(
    message: service_pb2.ModelInferRequest, tensor: contract.Tensor, elements: Sequence[bytes]
) -> None:
    """On the wire a BYTES tensor is each element's length (4 bytes, little endian) and the element."""
    message.inputs.add(name=tensor.name, datatype="BYTES", shape=[len(elements)])
    message.raw_input_contents.append(
        b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    )


def _set_parameter(message: service_pb2.ModelInferRequest, name: str, value: object) -> None:
    """A request parameter of Triton is one string, whole number, float or truth value."""
    if name == "stop":  # always as a list, so that a string that begins with "[" means itself
        value = _as_json([value] if isinstance(value, str) else value, "parameter 'stop'")
    field = message.parameters[name]
    if isinstance(value, (bool, np.bool_)):
        field.bool_param = bool(value)
    elif isinstance(value, numbers.Integral) and -(2**63) <= int(value) < 2**63:
        field.int64_param = int(value)
    elif isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        field.double_param = float(value)
    elif isinstance(value, str):
        field.string_param = value
    else:
        raise AudioFlamingoError(
            "INVALID_ARGUMENT",
            f"parameter '{name}': must be a string, a 64-bit number or a bool, got {_described(value)}",
        )


def _described(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '…'}"


def _as_json(value: object, name: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise AudioFlamingoError("INVALID_ARGUMENT", f"{name}: cannot be written as JSON ({error})") from None
