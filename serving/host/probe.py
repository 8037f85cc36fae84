"""Does the server answer? Asks it a real question about a real (if short) sound; the health check of containers."""

from __future__ import annotations

import argparse
import sys
import uuid
from pathlib import Path
from typing import Literal, NamedTuple

import grpc
import numpy as np
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

from af3 import contract
from clients.api_key import authorization
from clients.request import prompt_request
from clients.sound.samples import Samples
from clients.tls import Tls
from serving.address import probe_address
from serving.door.upstream import key_metadata

TONE_HZ = 440
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PROBE_HZ = 16_000
Health = Literal["answers", "busy", "silent", "failed"]


class Finding(NamedTuple):
    """The result of a probe, and the sentence that says why; empty if all is well."""

    health: Health
    reason: str = ""


def answers(url: str, timeout_s: float = 10.0) -> bool:
    """True when the ensemble at `url` (gRPC) answers a question about a 0.5 s tone with at least one token."""
    with grpc.insecure_channel(url) as channel:
        return _ask(channel, timeout_s, "").health == "answers"


def every_stage_answers(url: str, key: str, timeout_s: float = 10.0) -> Finding:
    """One tiny inference through each of the five steps of a Triton that is closed by `key`."""
    with grpc.insecure_channel(url) as channel:
        found = _ask(channel, timeout_s, key)
        return found if found.health != "answers" else _ask(channel, timeout_s, key, _spoken())


def front_end_answers(url: str, key: str, timeout_s: float) -> bool:
    """Does Triton itself answer? Asks nothing of a step, so it waits in no queue."""
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request, metadata = service_pb2.ServerLiveRequest(), key_metadata(key)
        try:
            return bool(stub.ServerLive(request, timeout=timeout_s, metadata=metadata).live)
        except grpc.RpcError:
            return False


def examine(url: str, timeout_s: float, tls: Tls | None = None) -> Finding:
    """Probe the door as a client. A server that refuses because it is full counts as well."""
    with channel_to(url, tls) as channel:
        found = _ask(channel, timeout_s, "")
    host, _, port = url.rpartition(":")
    lane = probe_address(int(port)) if host in LOOPBACK and port.isdigit() else None
    if found.health in ("failed", "silent") and lane is not None:
        with grpc.insecure_channel(lane) as channel:  # clients may hold all connections of the port
            return _ask(channel, timeout_s, "")
    return found


def health(url: str, timeout_s: float) -> Health:
    """`examine`, without the sentence."""
    return examine(url, timeout_s).health


def channel_to(url: str, tls: Tls | None) -> grpc.Channel:
    return grpc.insecure_channel(url) if tls is None else grpc.secure_channel(url, tls.credentials())


def _ask(
    channel: grpc.Channel, timeout_s: float, key: str, request: service_pb2.ModelInferRequest | None = None
) -> Finding:
    """Send `request`, or a question about a tone."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    metadata = (*key_metadata(key), *(() if key else authorization()))
    try:
        if not stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s, metadata=metadata).ready:
            return Finding("failed", "the server says that it is not ready")
        requests = iter((_heard() if request is None else request,))
        responses = list(stub.ModelStreamInfer(requests, timeout=timeout_s, metadata=metadata))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return Finding("answers", "ready by its own word: without an API key nothing can be asked")
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Finding("silent", f"no answer within {timeout_s:g} s")
        return Finding("failed", f"{error.code().name}: {error.details()}")
    errors = [response.error_message for response in responses if response.error_message]
    if errors:
        return Finding("busy" if "UNAVAILABLE: " in errors[0] else "failed", errors[0])
    counts = [
        InferResult(response.infer_response).as_numpy(contract.TOKEN_COUNT.name) for response in responses
    ]
    if any(count is not None and count[0] > 0 for count in counts):
        return Finding("answers")
    return Finding("failed", "the answer had no token")


def _heard() -> service_pb2.ModelInferRequest:
    """A question about a tone: preprocess, audio_encoder, llm and postprocess."""
    name = contract.AUDIO_FLAMINGO.name
    return prompt_request(name, _tone(), "What is this?", None, _new_id(), {"max_tokens": 1})


def _spoken() -> service_pb2.ModelInferRequest:
    """A word to be spoken, straight to tts."""
    message = service_pb2.ModelInferRequest(model_name=contract.TTS.name, id=_new_id())
    values = {
        contract.TEXT: _bytes(b"Ready."),
        contract.FINISH_REASON: _bytes(b"stop"),
        contract.TOKEN_COUNT: np.int32(1).tobytes(),
        contract.INDEX: np.int32(0).tobytes(),
        contract.TOKEN_IDS: np.int32(0).tobytes(),
    }
    for tensor, raw in values.items():
        datatype = "BYTES" if tensor.dtype == "STRING" else tensor.dtype
        message.inputs.add(name=tensor.name, datatype=datatype, shape=[1])
        message.raw_input_contents.append(raw)
    return message


def _new_id() -> str:
    return f"ready-{uuid.uuid4()}"


def _bytes(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _tone() -> Samples:
    return Samples(0.1 * np.sin(2 * np.pi * TONE_HZ * np.arange(PROBE_HZ // 2) / PROBE_HZ), PROBE_HZ)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds (default: %(default)s)")
    parser.add_argument("--tls-ca", type=Path, help="PEM file of who signed the server's certificate")
    parser.add_argument("--tls-cert", type=Path, help="PEM file of our own certificate, for mutual TLS")
    parser.add_argument("--tls-key", type=Path, help="PEM file of its key")
    given = parser.parse_args()
    tls = None if given.tls_ca is None else Tls(given.tls_ca, given.tls_cert, given.tls_key)
    found = examine(given.url, given.timeout, tls)
    well = found.health in ("answers", "busy")
    print("ready" if well else f"{given.url} does not answer ({found.health}): {found.reason}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
