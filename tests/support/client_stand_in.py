"""A stand-in for the server: it speaks KServe's gRPC protocol and says what a test tells it to.

It is not Triton. What Triton does with the same requests is checked in tests/e2e/test_clients.py.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

Request = service_pb2.ModelInferRequest
Response = service_pb2.ModelStreamInferResponse
Behaviour = Callable[[Request, grpc.ServicerContext], Iterator[Response]]


def delta(text: str, index: int, finish_reason: str = "", thinking: str = "") -> Response:
    """A response as the ensemble sends it: one token for each."""
    response = Response()
    _add_bytes(response, "text", text)
    if thinking:
        _add_bytes(response, "thinking", thinking)
    _add_bytes(response, "finish_reason", finish_reason)
    _add_ints(response, "token_count", [index + 1])
    _add_ints(response, "index", [index])
    _add_ints(response, "token_ids", [100 + index])
    return response


def empty_final() -> Response:
    """The response that only says that it is the last."""
    response = Response()
    response.infer_response.parameters["triton_final_response"].bool_param = True
    return response


def answer(*texts: str) -> Behaviour:
    """Send these deltas, then the empty final response."""

    def behave(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
        for index, text in enumerate(texts):
            yield delta(text, index, "stop" if index == len(texts) - 1 else "")
        yield empty_final()

    return behave


def endless(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
    """Send deltas until the client goes."""
    index = 0
    while context.is_active():
        yield delta("x", index)
        index += 1


def refusal(code: grpc.StatusCode, sentence: str) -> Behaviour:
    def behave(request: Request, context: grpc.ServicerContext) -> Iterator[Response]:
        yield delta("so", 0)
        context.abort(code, sentence)

    return behave


@dataclass
class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A running stand-in. `behave` may be changed at any time; `requests` and `metadata` are what came."""

    behave: Behaviour = field(default_factory=lambda: answer("yes"))
    requests: list[Request] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> "StandIn":
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)]
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()

    def ModelStreamInfer(
        self, requests: Iterator[Request], context: grpc.ServicerContext
    ) -> Iterator[Response]:
        self.metadata.append(dict(context.invocation_metadata()))
        for request in requests:
            self.requests.append(request)
            yield from self.behave(request, context)


def _add_bytes(response: Response, name: str, text: str) -> None:
    response.infer_response.outputs.add(name=name, datatype="BYTES", shape=[1])
    raw = serialize_byte_tensor(np.array([text.encode()], np.object_)).item()
    response.infer_response.raw_output_contents.append(raw)


def _add_ints(response: Response, name: str, values: list[int]) -> None:
    response.infer_response.outputs.add(name=name, datatype="INT32", shape=[len(values)])
    response.infer_response.raw_output_contents.append(np.array(values, np.int32).tobytes())
