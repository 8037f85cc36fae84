"""Ready, starting, and past recovery: what the door tells an orchestrator in both protocols."""

import urllib.error
import urllib.request

import pytest
from tritonclient import grpc as tritonclient

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress

HOST = "127.0.0.1"


def health(door: Door, what: str) -> tuple[bool, bool]:
    """By gRPC and by HTTP."""
    with tritonclient.InferenceServerClient(door.url) as client:
        by_grpc = client.is_server_live() if what == "live" else client.is_server_ready()
    try:
        with urllib.request.urlopen(f"http://{HOST}:{door.ports.http}/v2/health/{what}", timeout=10) as reply:
            by_http = reply.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 503
        by_http = False
    return by_grpc, by_http


@pytest.mark.parametrize(("ready", "alive"), [(True, True), (False, True), (False, False)])
def test_a_server_that_restarts_is_alive_and_one_that_cannot_start_is_not(ready: bool, alive: bool) -> None:
    with Door(TritonAddress(Ports(1, 1, 1), ""), HOST, claim(Ports(0, 0, 0), HOST)) as door:
        door.admission.ready, door.admission.alive = ready, alive
        assert health(door, "ready") == (ready, ready)
        assert health(door, "live") == (alive, alive)
