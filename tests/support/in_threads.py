"""Servers for one test, each in a thread of its own while a block runs."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from tritonclient.grpc import service_pb2_grpc


class HttpServer(http.server.ThreadingHTTPServer):
    """A thread a connection, and room for many that come at once."""

    request_queue_size = 256


@contextmanager
def in_thread(server: socketserver.BaseServer) -> Iterator[int]:
    """Gives its port."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def kserve_grpc(
    service: service_pb2_grpc.GRPCInferenceServiceServicer, address: str, most: int
) -> Iterator[int]:
    """KServe's service, at most so many calls at once; address: `host:port`, port 0 for a free one. Gives its port."""
    server = grpc.server(ThreadPoolExecutor(most))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port: int = server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
