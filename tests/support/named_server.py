"""A server that is well and says its name, over gRPC and HTTP: for tests of who is asked."""

from __future__ import annotations

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.address import Ports


class NamedServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Healthy at one address; says over both protocols which server it is."""

    def __init__(self, address: str, ports: Ports):
        self._address = address
        self._ports = ports

    def __enter__(self) -> NamedServer:
        handler = type("Handler", (_SaysWho,), {"address": self._address})
        self._http = http.server.ThreadingHTTPServer((self._address, self._ports.http), handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._grpc)
        self._grpc.add_insecure_port(f"{self._address}:{self._ports.grpc}")
        self._grpc.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name=self._address)


class _SaysWho(http.server.BaseHTTPRequestHandler):
    address: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.address.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass
