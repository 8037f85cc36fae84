"""A server whose health is good and that refuses every question: a fault that only its answers show."""

from __future__ import annotations

import http.server

import grpc
from tritonclient.grpc import service_pb2_grpc

from deploy.loopback import Running
from serving.address import Ports
from tests.support.in_threads import HttpServer, in_thread, kserve_grpc

MOST = 16  # calls at once


class RefusingServer(Running, service_pb2_grpc.GRPCInferenceServiceServicer):
    """Over HTTP it is ready, over gRPC every stream is UNAVAILABLE; `refused` counts them. A context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self.headers: list[dict[str, str]] = []  # of every question, over gRPC or HTTP

    def open(self) -> None:
        handler = type("Handler", (_Healthy,), {"heard": self.headers})
        http_server = HttpServer(("127.0.0.1", 0), handler)
        http_port = self.stack.enter_context(in_thread(http_server))
        self.ports = Ports(self.stack.enter_context(kserve_grpc(self, "127.0.0.1:0", MOST)), http_port, 0)

    def ModelStreamInfer(self, request_iterator: object, context: grpc.ServicerContext) -> None:
        self.refused += 1
        self.headers.append({str(name): str(value) for name, value in context.invocation_metadata()})
        context.abort(grpc.StatusCode.UNAVAILABLE, "broken")


class _Healthy(http.server.BaseHTTPRequestHandler):
    heard: list[dict[str, str]]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.heard.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass
