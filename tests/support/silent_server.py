"""A server whose health is good and that answers nothing: what it takes, it keeps."""

from __future__ import annotations

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from tritonclient.grpc import service_pb2_grpc

from serving.address import Ports

MOST = 64  # requests that it holds at once


class SilentServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`held` counts what it has been asked. A context manager; leaving it lets go of all."""

    def __init__(self) -> None:
        self.held = 0
        self._over = threading.Event()

    def __enter__(self) -> SilentServer:
        handler = type("Handler", (_Silent,), {"server_of": self})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(MOST))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._grpc)
        self.ports = Ports(self._grpc.add_insecure_port("127.0.0.1:0"), self._http.server_port, 0)
        self._grpc.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()

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
