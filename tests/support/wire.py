"""The server as a bare KServe client sees it, so that the tests check the wire and not our client library."""

import json
import queue
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

TIMEOUT_S = 300  # half an hour of audio on a busy machine


@dataclass(frozen=True)
class Response:
    text: str
    finish_reason: str
    token_count: int
    index: int
    token_ids: tuple[int, ...]
    received_s: float
    thinking: str = ""


class Refused(Exception):
    """The server answered with an error; `status` as it stands in the sentence."""

    def __init__(self, sentence: str):
        super().__init__(sentence)
        self.status, _, self.message = sentence.partition(": ")


class Stream:
    """One request on a stream of its own: iterate its responses, or cancel it."""

    def __init__(
        self,
        url: str,
        audio: Sequence[bytes] = (),
        prompt: str | None = None,
        messages: Any = None,
        parameters: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        model: str = "audio_flamingo",
        real_status: bool = False,
    ):
        inputs = []
        if audio:
            inputs.append(_bytes_input("audio", audio))
        if prompt is not None:
            inputs.append(_bytes_input("prompt", [prompt.encode()]))
        if messages is not None:
            text = messages if isinstance(messages, str) else json.dumps(messages)
            inputs.append(_bytes_input("messages", [text.encode()]))
        request = _request(
            model, inputs, uuid.uuid4().hex if request_id is None else request_id, parameters or {}
        )
        self._request_id = request.id
        self._channel = grpc.insecure_channel(
            url, options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        )
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self.sent_s = time.monotonic()
        self._keep_open: queue.Queue[Any] = queue.Queue()
        self._call = stub.ModelStreamInfer(
            self._requests(request), metadata=[("triton_grpc_error", "true")] * real_status, timeout=TIMEOUT_S
        )

    def _requests(self, request: Any) -> Iterator[Any]:
        yield request
        self._keep_open.get()

    def __iter__(self) -> Iterator[Response]:
        return map(_response, self.results())

    def results(self) -> Iterator[triton.InferResult]:
        """The responses that hold tensors. Raises Refused."""
        try:
            for message in self._call:
                if message.error_message:
                    raise Refused(re.sub("^in ensemble '[^']*', ", "", message.error_message))
                if message.infer_response.outputs:
                    yield triton.InferResult(message.infer_response)
                if message.infer_response.parameters["triton_final_response"].bool_param:
                    break
        except grpc.RpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from None
        finally:
            self.close()

    def stop_speech(self) -> None:
        """Send `stop` to the voice, on the connection that began the request: another's would not count."""
        _stop(self._channel, self._request_id, "tts")

    def cancel(self) -> None:
        """Cancel the call, as a client that changed its mind."""
        self._call.cancel()
        self.close()

    def close(self) -> None:
        """Drop the connection, as a client that vanished."""
        self._keep_open.put(None)
        self._channel.close()


def ask(url: str, *args: Any, **kwargs: Any) -> list[Response]:
    """All responses to one request. Raises Refused."""
    return list(Stream(url, *args, **kwargs))


def stop_speech(url: str, request_id: str, model: str = "tts") -> None:
    """Send `stop` for a request, on a connection of its own. Raises Refused."""
    with grpc.insecure_channel(url, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        _stop(channel, request_id, model)


def _stop(channel: grpc.Channel, request_id: str, model: str) -> None:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="stop", datatype="BOOL", shape=[1])
    request.raw_input_contents.append(b"\x01")
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    for message in stub.ModelStreamInfer(iter([request]), timeout=TIMEOUT_S):
        if message.error_message:
            raise Refused(message.error_message)


def text_of(responses: Sequence[Response]) -> str:
    return "".join(response.text for response in responses)


def ids_of(responses: Sequence[Response]) -> list[int]:
    return [token for response in responses for token in response.token_ids]


def _request(
    model: str, inputs: Sequence[triton.InferInput], request_id: str, parameters: Mapping[str, Any]
) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for tensor in inputs:
        request.inputs.append(tensor._get_tensor())
        request.raw_input_contents.append(tensor._get_content())
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    for name, value in parameters.items():
        field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[
            type(value)
        ]
        setattr(request.parameters[name], field, value)
    return request


def _bytes_input(name: str, values: Sequence[bytes]) -> triton.InferInput:
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    array = np.empty(len(values), np.object_)
    array[:] = values
    tensor.set_data_from_numpy(array)
    return tensor


def _response(result: triton.InferResult) -> Response:
    def scalar(name: str) -> Any:
        return result.as_numpy(name)[0]

    return Response(
        scalar("text").decode("utf-8"),
        scalar("finish_reason").decode(),
        int(scalar("token_count")),
        int(scalar("index")),
        tuple(result.as_numpy("token_ids").tolist()),
        time.monotonic(),
        scalar("thinking").decode() if result.as_numpy("thinking") is not None else "",
    )
