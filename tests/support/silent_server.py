"""A server whose health is good and that answers nothing: what it takes, it keeps."""

from __future__ import annotations

import http.server
import threading

import grpc
from tritonclient.grpc import service_pb2_grpc

from deploy.loopback import Running
from serving.address import Ports
from tests.support.in_threads import HttpServer, in_thread, kserve_grpc

MOST = 64  # requests that it holds at once


class SilentServer(Running, service_pb2_grpc.GRPCInferenceServiceServicer):
    """`held` counts what it has been asked. A context manager; leaving it lets go of all."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self._over = threading.Event()

    def open(self) -> None:
        handler = type("Handler", (_Silent,), {"server_of": self})
        http_server = HttpServer(("127.0.0.1", 0), handler)
        http_port = self.stack.enter_context(in_thread(http_server))
        self.ports = Ports(self.stack.enter_context(kserve_grpc(self, "127.0.0.1:0", MOST)), http_port, 0)
        self.stack.callback(self._over.set)

    def ModelStreamInfer(self, request_iterator: object, context: grpc.ServicerContext) -> None:
        self.hold()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the test is over")

    def hold(self) -> None:
        self.held += 1
        self._over.wait()


class _Silent(http.server.BaseHTTPRequestHandler):
    server_of: SilentServer

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server_of.hold()
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        pass
