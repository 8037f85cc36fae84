"""Clients that do not read: their slots are free when Triton has written all, and what is kept for them is bounded."""

from collections.abc import Iterator

import grpc
import pytest

from serving.door import relayed_answer
from serving.door.admission import Limits
from serving.door.door import Door
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.unit.serving.test_grpc_clients import OWN, OpenStream, ask

ANSWERS = 3
# Else the client's own transport takes more and more before anybody reads, until it has a whole answer.
SMALL_WINDOW = [*OWN, ("grpc.http2.bdp_probe", 0)]
SPOKEN = "say=hi|many=20|big=100000"  # 2 MB, eight times what each answer may keep for sure


@pytest.fixture
def small(triton: FakeTriton) -> Iterator[Door]:
    with door_before(triton, Limits(in_flight=ANSWERS)) as door:
        yield door


def test_a_long_answer_that_nobody_reads_gives_its_slot_back_when_triton_has_written_it(
    small: Door, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed_answer, "UNREAD_S", 600.0)  # none loses its answer for that
    with grpc.insecure_channel(small.url, options=SMALL_WINDOW) as channel:
        stream = OpenStream(channel)
        for _ in range(ANSWERS):
            stream.send(SPOKEN, speech=True)
        wait_until(lambda: len(triton.seen) == ANSWERS)
        wait_until(lambda: small.admission.in_flight == 0)
        assert ask(small.url, prompt="say=hi")
        wait_until(lambda: small.relay.open_answers == ANSWERS)
        stream.cancel()
    wait_until(lambda: small.relay.open_answers == 0)
    assert small.relay.unread.bytes == 0


def test_what_all_answers_keep_is_bounded_and_then_each_waits_for_its_client(
    small: Door, triton: FakeTriton
) -> None:
    unread = small.relay.unread
    unread.own_bytes, unread.shared_bytes = 64 << 10, 1 << 20
    with grpc.insecure_channel(
        small.url, options=[*SMALL_WINDOW, ("grpc.max_receive_message_length", -1)]
    ) as channel:
        stream = OpenStream(channel)
        for _ in range(ANSWERS):
            stream.send(SPOKEN, speech=True)
        wait_until(lambda: len(unread.waiting) == small.admission.in_flight == ANSWERS)
        assert unread.shared_bytes < unread.bytes < unread.shared_bytes + ANSWERS * 200_000
        ended = 0
        while ended < ANSWERS:  # all of it comes once it is read
            ended += stream.next().infer_response.parameters["triton_final_response"].bool_param
        stream.cancel()
    wait_until(lambda: small.admission.in_flight == 0)
    assert unread.bytes == 0


def test_who_reads_nothing_loses_the_answer_and_its_memory_when_there_is_no_room(
    small: Door, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayed_answer, "UNREAD_S", 0.3)
    small.relay.unread.shared_bytes = 1 << 20
    with grpc.insecure_channel(small.url, options=SMALL_WINDOW) as channel:
        stream = OpenStream(channel)
        stream.send(SPOKEN.replace("20", "200"), speech=True)
        wait_until(lambda: small.admission.in_flight == 1)
        wait_until(lambda: small.admission.in_flight == 0, timeout_s=5)
        assert small.relay.unread.bytes == 0
        stream.cancel()
