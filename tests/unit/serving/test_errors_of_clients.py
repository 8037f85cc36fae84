"""Errors that a client brings about come after a head: proxies blame a server for those that come in place of one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from clients.request import prompt_request
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.stand_in_door import door_before

REAL_STATUS = (("triton_grpc_error", "true"),)
HEADERS_FRAME = 1


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with FakeTriton() as triton, door_before(triton) as made:
        yield made


class Wire:
    """A connection to the door through here; `heads()`: how many blocks of headers have come from it."""

    def __init__(self, door: Door):
        self._listener = socket.create_server((door.host, 0))
        self._door = door
        self._received = bytearray()

    def __enter__(self) -> "Wire":
        host, port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()
        self.channel = grpc.insecure_channel(f"{host}:{port}")
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()
        self._listener.close()

    def heads(self) -> int:
        """Frames: 3 bytes of length, type, flags, stream (RFC 9113, 4.1)."""
        start = found = 0
        while start + 9 <= len(self._received):
            found += self._received[start + 3] == HEADERS_FRAME
            start += 9 + int.from_bytes(self._received[start : start + 3], "big")
        return found

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection((self._door.host, self._door.ports.grpc))
        threading.Thread(target=self._copy, args=(client, server, bytearray()), daemon=True).start()
        self._copy(server, client, self._received)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                kept += block
                target.sendall(block)


def asked(wire: Wire, prompt: str, **parameters: int) -> grpc.StatusCode:
    request = prompt_request("audio_flamingo", [], prompt, None, None, {})
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    stub = service_pb2_grpc.GRPCInferenceServiceStub(wire.channel)
    with pytest.raises(grpc.RpcError) as ended:
        list(stub.ModelStreamInfer(iter([request]), metadata=REAL_STATUS, timeout=20))
    return ended.value.code()


def test_no_time_and_no_such_method_are_errors_after_a_head(door: Door) -> None:
    with Wire(door) as wire:
        assert asked(wire, "forever", timeout=3) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert wire.heads() == 2
    for method in ("/inference.GRPCInferenceService/NoSuchMethod", "/no.such.Service/Method"):
        with Wire(door) as wire:
            with pytest.raises(grpc.RpcError) as ended:
                wire.channel.unary_unary(method)(b"", timeout=20)
            assert ended.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert wire.heads() == 2


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL"])
def test_errors_of_the_server_itself_come_in_place_of_a_head(door: Door, status: str) -> None:
    """So that a proxy asks another server, and sees which one fails."""
    with Wire(door) as wire:
        assert asked(wire, f"error={status}: it is broken").name == status
        assert wire.heads() == 1
