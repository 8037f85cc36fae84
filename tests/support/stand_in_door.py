"""A door before a stand-in of Triton."""

from __future__ import annotations

from typing import Any

from serving.address import Ports, claim
from serving.door.admission import DEFAULT_LIMITS, Limits
from serving.door.door import Door, TritonAddress
from tests.support.fake_triton import FakeTriton

HOST = "127.0.0.1"


def door_before(triton: FakeTriton, limits: Limits = DEFAULT_LIMITS, **options: Any) -> Door:
    """On free ports, ready; use it as a context manager. options: those of Door."""
    door = Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), limits, **options)
    door.admission.ready = True
    return door
