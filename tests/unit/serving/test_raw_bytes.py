"""Bytes of every kind on the HTTP port; `python -m tests.fuzz` goes on with them. Triton is a stand-in."""

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from tests.fuzz.raw_bytes import KINDS, raw_case, run_raw
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.two_protocols import ask

HOST = "127.0.0.1"
CASES = 1500


def test_no_bytes_harm_the_door_or_get_a_reply_of_a_fault_of_ours() -> None:
    ports = claim(Ports(0, 0, 0), HOST)
    with FakeTriton() as triton, Door(TritonAddress(triton.ports, ""), HOST, ports) as door:
        door.admission.ready = True
        found = run_raw(HOST, door.ports.http, range(CASES))
        print(found.table())
        assert found.wrong == []
        assert found.counts.total() == CASES
        assert {kind for kind, _ in found.counts} == {kind for kind, _ in KINDS}
        assert {status for _, status in found.counts} >= {"200", "400", "101"}
        # A body that is broken off in a chunk has a reply, too.
        assert found.counts["chunks", "400"] > found.counts["chunks", "closed"]
        assert ask("http", door, "say=hi").status == "OK"
        wait_until(
            lambda: not (door.admission.in_flight or door.relay.uploads.count or door.realtime.sessions)
        )


def test_a_number_is_always_the_same_bytes() -> None:
    first, second = ([raw_case(number).data for number in range(200)] for _ in range(2))
    assert first == second
