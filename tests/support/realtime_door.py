"""A door before a stand-in of Triton, and sound for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from tritonclient.grpc import service_pb2

from serving.address import location
from serving.door.door import Door
from serving.door.realtime.realtime_limits import DEFAULT_REALTIME, RealtimeLimits
from tests.support import stand_in_door
from tests.support.fake_triton import FakeTriton

HOST = "127.0.0.1"
HZ = 24_000
QUESTION = Path(__file__).parents[2] / "checkpoints" / "samples" / "question.wav"


def door_before(triton: FakeTriton, limits: RealtimeLimits = DEFAULT_REALTIME, **options: Any) -> Door:
    return stand_in_door.door_before(triton, realtime=limits, **options)


def address(door: Door) -> str:
    return f"ws://{location(door.host, door.ports.http)}"


def voice(hz: int = HZ) -> np.ndarray:
    """Somebody asks something; int16 [n], with half a second of quiet before it."""
    pcm, rate = soundfile.read(QUESTION, dtype="int16")
    return np.concatenate([quiet(0.5, hz), soxr.resample(pcm, rate, hz)])


def quiet(seconds: float, hz: int = HZ) -> np.ndarray:
    return np.zeros(round(seconds * hz), np.int16)


def messages(request: service_pb2.ModelInferRequest) -> list[dict[str, Any]]:
    """The messages that the model got."""
    names = [tensor.name for tensor in request.inputs]
    found: list[dict[str, Any]] = json.loads(request.raw_input_contents[names.index("messages")][4:])
    return found
