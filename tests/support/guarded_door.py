"""A door that asks for API keys, and clients that have one."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from serving.address import Ports, claim
from serving.door.admission import Limits
from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key
from serving.door.door import Door, TritonAddress
from tests.support.fake_triton import FakeTriton
from tests.support.wire import _bytes_input, _request

HOST = "127.0.0.1"
GENERATE = "/v2/models/audio_flamingo/generate"


@dataclass
class Guarded:
    """A door with keys: `key` by name."""

    door: Door
    file: Path
    key: dict[str, str]

    def change(self, name: str, **values: Any) -> None:
        kept = KeyFile.read(self.file)
        found = kept.find(name) or ApiKey(name=name, sha256=hashed(self.key.setdefault(name, new_key())))
        kept.with_key(found.model_copy(update=values)).write(self.file)
        self.door.reload()

    def http(
        self, key: str | None, method: str = "POST", path: str = GENERATE, **body: Any
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, self.door.ports.http, timeout=30)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        sent = json.dumps({"prompt": "say=hi", **body}) if method == "POST" else None
        connection.request(method, path, sent, headers)
        reply = connection.getresponse()
        found = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        connection.close()
        return found

    def grpc(self, key: str | None, prompt: str = "say=hi") -> str:
        """OK, or the status of the error."""
        with grpc.insecure_channel(self.door.url, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            return asked(channel, key, prompt)

    def counted(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.door.metrics.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0


def asked(channel: grpc.Channel, key: str | None, prompt: str) -> str:
    try:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request_of(prompt), timeout=30, metadata=bearer(key))
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def bearer(key: str | None) -> list[tuple[str, str]]:
    return [] if key is None else [("authorization", f"Bearer {key}")]


def request_of(prompt: str, request_id: str = "mine") -> Any:
    return _request("audio_flamingo", [_bytes_input("prompt", [prompt.encode()])], request_id, {})


@contextmanager
def guarded_door(triton: FakeTriton, folder: Path) -> Iterator[Guarded]:
    """With the keys of alice and bob."""
    file = folder / "keys.json"
    keys = {name: new_key() for name in ("alice", "bob")}
    KeyFile(keys=tuple(ApiKey(name=name, sha256=hashed(key)) for name, key in keys.items())).write(file)
    ports = claim(Ports(0, 0, 0), HOST)
    with Door(TritonAddress(triton.ports, ""), HOST, ports, Limits(in_flight=8), api_keys=file) as door:
        door.admission.ready = True
        yield Guarded(door, file, keys)
