"""Numbered requests: the same number is the same request, but for what OGG and MP3 encoders stamp into files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from af3 import contract
from tests.fuzz.audio_files import audio_file

Request = service_pb2.ModelInferRequest
NUMPY = {
    "FP32": np.float32,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "INT16": np.int16,
}
INTEGERS = (0, 1, 2, -1, 7, 31, 32, 255, 4096, 2**31 - 1, -(2**31))
FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, np.nan, np.inf, -np.inf, 1e38, -1e-38)
NAMES = (*contract.AUDIO_FLAMINGO_SPEECH.outputs, contract.AUDIO, contract.PROMPT)


@dataclass(frozen=True)
class Case:
    """One request. `inside`: it goes past the door, straight to a step. `must_fail`: an answer would be wrong."""

    number: int
    kind: str
    request: bytes
    inside: bool = False
    must_fail: bool = False


def case(number: int) -> Case:
    random = Random(number)
    kind, make = random.choice(KINDS)
    return make(number, kind, random)


def _request(number: int, random: Random, model: str = "audio_flamingo") -> Request:
    request = Request(model_name=model, id=f"fuzz-{number}")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    request.parameters["max_tokens"].int64_param = random.choice((1, 1, 2, 5))
    return request


def add(request: Request, name: str, values: np.ndarray, datatype: str | None = None) -> None:
    raw = (
        serialize_byte_tensor(values).item()
        if values.dtype == np.object_ and values.size
        else values.tobytes()
    )
    names = {np.dtype(kind): word for word, kind in NUMPY.items()}
    given = datatype or ("BYTES" if values.dtype == np.object_ else names[values.dtype])
    request.inputs.add(name=name, datatype=given, shape=values.shape)
    request.raw_input_contents.append(raw if values.size else b"")


def texts(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _audio(number: int, kind: str, random: Random) -> Case:
    request = _request(number, random)
    files = [audio_file(random) for _ in range(random.choice((1, 1, 1, 2)))]
    add(request, "audio", texts(*files))
    add(request, "prompt", texts(b"What is it?"))
    return Case(number, kind, request.SerializeToString(), must_fail=b"" in files)


def _json_value(random: Random, depth: int = 0) -> Any:
    leaves: tuple[Any, ...] = (
        None,
        True,
        0,
        -1,
        1e308,
        "",
        "audio",
        "text",
        "\ud800",
        "x" * 300,
        "<|im_end|>",
        "\0",
        [],
        {},
    )
    if depth > 3 or random.random() < 0.5:
        return random.choice(leaves)
    if random.random() < 0.5:
        return [_json_value(random, depth + 1) for _ in range(random.randrange(4))]
    return {
        random.choice(("role", "content", "type", "text", "x")): _json_value(random, depth + 1)
        for _ in range(3)
    }


def _message(random: Random) -> Any:
    if random.random() < 0.2:
        return _json_value(random)
    content: Any = random.choice(
        ("Hi", "", [{"type": "text", "text": "Hi"}], [{"type": "audio"}], [], _json_value(random))
    )
    message = {"role": random.choice(("user", "user", "assistant", "system", "tool", 7)), "content": content}
    if random.random() < 0.1:
        message["x"] = _json_value(random)
    return message


def _chat(number: int, kind: str, random: Random) -> Case:
    request = _request(number, random)
    document: Any = [_message(random) for _ in range(random.choice((0, 1, 1, 2, 3, 300)))]
    text = json.dumps(document if random.random() < 0.9 else _json_value(random)).encode()
    broken = random.random()
    if broken < 0.1:
        text = text[: random.randrange(len(text) + 1)]
    elif broken < 0.15:
        text = b"[" * random.choice((10, 1_000, 100_000))
    elif broken < 0.25:
        text = random.randbytes(random.choice((1, 10, 1_000)))
    add(request, "messages", texts(text))
    return Case(number, kind, request.SerializeToString())


def _parameter(random: Random, field: Any) -> None:
    how = random.randrange(4)
    if how == 0:
        field.int64_param = random.choice((*INTEGERS, 2**63 - 1, -(2**63)))
    elif how == 1:
        field.double_param = random.choice(FLOATS)
    elif how == 2:
        field.string_param = random.choice(
            ("", "x", "[", '["a"]', "[1]", "null", "9" * 400, "\0", "é" * 40, "{}")
        )
    else:
        field.bool_param = random.random() < 0.5


def _parameters(number: int, kind: str, random: Random) -> Case:
    request = _request(number, random, random.choice(("audio_flamingo", "audio_flamingo_speech")))
    add(request, "prompt", texts(b"What is it?"))
    known = (
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "repetition_penalty",
        "seed",
        "stop",
        "think",
        "voice",
        "rate",
    )
    others = ("timeout", "priority", "sequence_id", "id", "x" * 500, "", "é", "stream", "binary_data_output")
    for _ in range(random.choice((1, 1, 2, 4))):
        _parameter(random, request.parameters[random.choice(known + others)])
    # Answers are not to take long: what is tested is what is let in.
    if request.parameters["max_tokens"].int64_param > 8:
        request.parameters["max_tokens"].int64_param = random.choice((8, 5_000))
    if random.random() < 0.1:
        request.id = random.choice(("", "x" * 129, "x" * 100_000, "é\n", "../../etc/passwd"))
    return Case(number, kind, request.SerializeToString())


def _door_tensors(number: int, kind: str, random: Random) -> Case:
    """Right names with wrong types and shapes, wrong names, none at all."""
    request = _request(number, random, random.choice(("audio_flamingo", "audio_flamingo_speech")))
    for tensor in random.sample(NAMES, random.randrange(4)):
        shape = random.choice(((), (0,), (1,), (2,), (1, 1), (0, 5)))
        values = np.full(shape, b"x", np.object_) if random.random() < 0.5 else np.ones(shape, np.int32)
        add(
            request,
            tensor.name,
            np.asarray(values),
            random.choice((None, None, "BYTES", "FP32", "FP16", "NOPE")),
        )
    return Case(number, kind, request.SerializeToString())


def _garbage(number: int, kind: str, random: Random) -> Case:
    """Bytes that are no message, or only nearly one."""
    good = bytearray(_request(number, random).SerializeToString())
    for _ in range(random.choice((1, 3, 10))):
        good[random.randrange(len(good))] = random.getrandbits(8)
    return Case(
        number,
        kind,
        bytes(good) if random.random() < 0.7 else random.randbytes(random.choice((1, 50, 2_000))),
    )


def _good_llm(random: Random) -> dict[str, np.ndarray]:
    length = random.choice((1, 2, 20))
    return {
        "input_ids": np.array([[random.randrange(100) for _ in range(length)]], np.int32),
        "input_lengths": np.array([[length]], np.int32),
        "request_output_len": np.array([[random.choice((1, 3))]], np.int32),
        "streaming": np.array([[True]]),
    }


def _good_step(step: contract.Step, random: Random) -> dict[str, np.ndarray]:
    """The tensors that the step before would send."""
    if step is contract.LLM:
        return _good_llm(random)
    if step is contract.AUDIO_ENCODER:
        samples = random.choice((161, 700, 16_000))
        return {
            "pcm": np.zeros((1, 1, samples), np.float32),
            "pcm_lengths": np.array([[samples]], np.int32),
            "window_index": np.array([[0]], np.int32),
        }
    if step is contract.POSTPROCESS:
        ids = [random.randrange(100) for _ in range(random.choice((0, 1, 3)))]
        return {
            "output_ids": np.array([[ids]], np.int32),
            "sequence_length": np.array([[len(ids)]], np.int32),
        }
    if step is contract.PREPROCESS:
        return {"prompt": texts(b"What is it?")}
    words = random.choice((b"Hello there.", b"", "日本語。".encode(), b"\xff\xfe", b"x" * 3_000))
    return {
        "text": texts(words),
        "finish_reason": texts(random.choice((b"", b"stop"))),
        "token_count": np.array([1], np.int32),
        "index": np.array([0], np.int32),
        "token_ids": np.array([1], np.int32),
    }


def _odd(tensor: contract.Tensor, random: Random) -> np.ndarray:
    """Any values in any shape, of the tensor's own type most of the time."""
    dtype = tensor.dtype if random.random() < 0.9 else random.choice(tuple(NUMPY))
    shape = tuple(random.choice((0, 1, 1, 2, 3, 40)) for _ in range(random.choice((1, 2, 2, 3))))
    size = int(np.prod(shape))
    if dtype == "STRING":
        values: Any = [random.choice((b"", b"x", b"\xff", b"stop")) for _ in range(size)]
        return texts(*values).reshape(shape)
    if dtype == "FP32":
        return np.array([random.choice(FLOATS) for _ in range(size)], np.float32).reshape(shape)
    if dtype == "BOOL":
        return np.array([random.random() < 0.5 for _ in range(size)], bool).reshape(shape)
    values = [random.choice(INTEGERS) for _ in range(size)]
    return np.array(values, np.int64).astype(NUMPY[dtype]).reshape(shape)


def _step(number: int, kind: str, random: Random) -> Case:
    """Straight to a step that only the ensembles may call, with one or two tensors that are wrong."""
    step = next(step for step in contract.AUDIO_FLAMINGO_SPEECH.steps if step.name == kind)
    request = _request(number, random, step.name)
    tensors: Mapping[str, np.ndarray] = _good_step(step, random)
    chosen = random.sample(step.inputs, random.choice((0, 1, 1, 2)))
    odd = {tensor.name: _odd(tensor, random) for tensor in chosen if tensor is not contract.STOP}
    for name, values in {**tensors, **odd}.items():
        add(request, name, values)
    if random.random() < 0.2:
        _parameter(random, request.parameters[random.choice(("max_tokens", "stop", "seed", "voice"))])
    if random.random() < 0.05:
        request.id = ""
    return Case(number, kind, request.SerializeToString(), inside=True)


Make = Callable[[int, str, Random], Case]
KINDS: tuple[tuple[str, Make], ...] = (
    *(("audio", _audio),) * 6,
    *(("chat", _chat),) * 3,
    *(("parameters", _parameters),) * 3,
    ("tensors", _door_tensors),
    ("garbage", _garbage),
    *((step.name, _step) for step in contract.AUDIO_FLAMINGO_SPEECH.steps),
)
