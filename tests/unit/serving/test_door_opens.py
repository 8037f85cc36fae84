"""A door that cannot open lets go of the ports that it had taken."""

import pytest

from serving.address import Ports, claim, listen
from serving.door.door import Door, TritonAddress

HOST = "127.0.0.1"


@pytest.mark.parametrize("taken", ["grpc", "http", "metrics"])
def test_a_port_that_is_taken_keeps_no_other(taken: str) -> None:
    ports = claim(Ports(0, 0, 0), HOST)
    with listen(HOST, getattr(ports, taken)), pytest.raises((OSError, RuntimeError)):
        Door(TritonAddress(Ports(1, 2, 3), "key"), HOST, ports)
    assert claim(ports, HOST) == ports
