"""A server that is well and says its name, over gRPC and HTTP: for tests of who is asked, and of who is slow."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.loopback import Running
from serving.address import Ports
from tests.support.in_threads import HttpServer, in_thread, kserve_grpc

MOST = 64  # calls at once


class NamedServer(Running, service_pb2_grpc.GRPCInferenceServiceServicer):
    """Healthy at one address; says over both protocols which server it is (`name`).

    delay_s: number of a question (a POST, a ModelStreamInfer) → after how long it is answered; may be changed.
    """

    def __init__(self, address: str, ports: Ports, name: str = ""):
        super().__init__()
        self.name = name or address
        self.delay_s: Callable[[int], float] = lambda number: 0.0
        self.asked = 0
        self.well = True  # else every GET is answered 503
        self._address = address
        self.ports = ports
        self._lock = threading.Lock()

    def open(self) -> None:
        handler = type("Handler", (_SaysWho,), {"server_of": self})
        http_server = HttpServer((self._address, self.ports.http), handler)
        self.stack.enter_context(in_thread(http_server))
        self.stack.enter_context(kserve_grpc(self, f"{self._address}:{self.ports.grpc}", MOST))

    def think(self) -> None:
        with self._lock:
            self.asked += 1
            number = self.asked
        time.sleep(self.delay_s(number))

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name=self.name)

    def ModelStreamInfer(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        for _ in request_iterator:
            self.think()
            response = service_pb2.ModelStreamInferResponse()
            response.infer_response.model_name = self.name
            yield response


class _SaysWho(http.server.BaseHTTPRequestHandler):
    server_of: NamedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.server_of.name.encode()
        self.send_response(200 if self.server_of.well else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server_of.think()
        self.do_GET()

    def log_message(self, *words: object) -> None:
        pass
