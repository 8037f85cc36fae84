"""A server whose health is good and that refuses every question: a fault that only its answers show."""

from __future__ import annotations

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from tritonclient.grpc import service_pb2_grpc

from serving.address import Ports


class RefusingServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Over HTTP it is ready, over gRPC every stream is UNAVAILABLE; `refused` counts them. A context manager."""

    def __init__(self) -> None:
        self.refused = 0
        self.headers: list[dict[str, str]] = []  # of every question, over gRPC or HTTP

    def __enter__(self) -> RefusingServer:
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
        self._http.heard = self.headers  # type: ignore[attr-defined]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._grpc)
        self.ports = Ports(self._grpc.add_insecure_port("127.0.0.1:0"), self._http.server_port, 0)
        self._grpc.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()

    def ModelStreamInfer(self, request_iterator: object, context: grpc.ServicerContext) -> None:
        self.refused += 1
        self.headers.append({str(name): str(value) for name, value in context.invocation_metadata()})
        context.abort(grpc.StatusCode.UNAVAILABLE, "broken")


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append({name.lower(): value for name, value in self.headers.items()})  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass
