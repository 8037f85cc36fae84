"""A caller with a thousand requests beside one with one."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from af3.errors import RequestError
from serving.door.admission import TOKEN_S, Admission, Limits, Slot
from serving.door.caller import Caller, set_caller
from serving.door.upload_budget import Upload, UploadBudget
from tests.support.fake_triton import FakeTriton
from tests.support.scrape import wait_until
from tests.support.stand_in_door import door_before
from tests.support.two_protocols import PROTOCOLS, ask


def admission(in_flight: int = 8, at_triton: int | None = 2, for_newcomers: int = 0) -> Admission:
    made = Admission(Limits(in_flight=in_flight, at_triton=at_triton, for_newcomers=for_newcomers))
    made.ready = True
    return made


def enter(to: Admission, caller: Caller, tokens: int = 0) -> Slot:
    slot = to.enter(caller, tokens=tokens)
    slot.on_evicted(lambda error: evicted.append((slot, error)))
    return slot


evicted: list[tuple[Slot, RequestError]] = []


@pytest.fixture(autouse=True)
def no_evicted() -> None:
    evicted.clear()


def test_triton_has_no_more_requests_than_it_is_to_have() -> None:
    to, caller = admission(), Caller()
    slots = [enter(to, caller) for _ in range(4)]
    assert [slot.waiting for slot in slots] == [False, False, True, True]
    slots[1].release()
    assert [slot.waiting for slot in slots] == [False, False, False, True]


def test_the_next_turn_is_that_of_the_caller_with_the_fewest_at_triton() -> None:
    to, many, one = admission(), Caller(), Caller()
    flood = [enter(to, many) for _ in range(7)]
    single = enter(to, one)
    assert single.waiting
    flood[0].release()
    assert not single.waiting


def test_a_newcomer_waits_for_nobody_while_another_holds_all_places() -> None:
    to, many, one = admission(in_flight=20, at_triton=4, for_newcomers=2), Caller(), Caller()
    flood = [enter(to, many) for _ in range(10)]
    assert sum(not slot.waiting for slot in flood) == 4
    first, second, third = (enter(to, one) for _ in range(3))
    assert [first.waiting, second.waiting, third.waiting] == [False, False, True]
    assert sum(not slot.waiting for slot in flood) == 4


def test_the_places_of_newcomers_are_never_those_of_who_has_an_equal_share() -> None:
    to = admission(in_flight=40, at_triton=4, for_newcomers=2)
    callers = [Caller() for _ in range(4)]
    floods = [enter(to, caller) for _ in range(5) for caller in callers]
    assert sum(not slot.waiting for slot in floods) == 4
    newcomer = Caller()
    assert [enter(to, newcomer).waiting for _ in range(2)] == [False, True]


def test_a_newcomer_that_ends_makes_room_for_the_next_newcomer_alone() -> None:
    to, many = admission(in_flight=20, at_triton=2, for_newcomers=1), Caller()
    flood = [enter(to, many) for _ in range(6)]
    first, second = enter(to, Caller()), enter(to, Caller())
    assert not first.waiting and second.waiting
    first.release()
    assert not second.waiting
    second.release()
    assert sum(not slot.waiting for slot in flood) == 2
    flood[0].release()
    assert sum(not slot.waiting for slot in flood[1:]) == 2


def test_a_caller_alone_has_no_place_of_newcomers() -> None:
    to, caller = admission(at_triton=2, for_newcomers=4), Caller()
    assert [enter(to, caller).waiting for _ in range(4)] == [False, False, True, True]


def test_the_oldest_request_of_a_caller_is_next() -> None:
    to, caller = admission(), Caller()
    slots = [enter(to, caller) for _ in range(5)]
    slots[0].release()
    assert [slot.waiting for slot in slots[1:]] == [False, False, True, True]


def test_of_callers_that_are_equal_the_shorter_request_is_next() -> None:
    to = admission(in_flight=20)
    at_triton = [enter(to, Caller()) for _ in range(2)]
    long = [enter(to, Caller(), tokens=400) for _ in range(3)]
    short = enter(to, Caller(), tokens=8)
    at_triton[0].release()
    assert not short.waiting
    at_triton[1].release()
    assert [slot.waiting for slot in long] == [False, True, True]


def test_a_long_request_does_not_wait_for_ever_behind_short_ones() -> None:
    now_s = [100.0]
    to = Admission(Limits(at_triton=1), clock=lambda: now_s[0])
    to.ready = True
    first, long = enter(to, Caller()), enter(to, Caller(), tokens=400)
    now_s[0] += 400 * TOKEN_S - 0.1
    early = enter(to, Caller(), tokens=8)
    now_s[0] += 0.1
    late = enter(to, Caller(), tokens=8)
    first.release()
    assert [early.waiting, long.waiting, late.waiting] == [False, True, True]
    early.release()
    assert [long.waiting, late.waiting] == [False, True]


def test_who_has_fewest_at_triton_is_next_whatever_is_asked() -> None:
    to, many, one = admission(), Caller(), Caller()
    flood = [enter(to, many, tokens=1) for _ in range(7)]
    single = enter(to, one, tokens=1024)
    flood[0].release()
    assert not single.waiting


def test_a_full_server_drops_the_longest_request_for_a_shorter_one_of_an_equal() -> None:
    to = admission(in_flight=5)
    slots = [enter(to, Caller(), tokens) for tokens in (8, 8, 400, 500, 300)]
    short = enter(to, Caller(), tokens=8)
    assert [slot for slot, _ in evicted] == [slots[3]]
    assert short.waiting
    with pytest.raises(RequestError, match="5 requests are in flight"):
        enter(to, Caller(), tokens=1024)
    assert len(evicted) == 1


def test_a_full_server_makes_room_for_who_has_less() -> None:
    to, many, one = admission(), Caller(), Caller()
    flood = [enter(to, many) for _ in range(8)]
    with pytest.raises(RequestError, match="8 requests are in flight"):
        to.enter(many)
    single = enter(to, one)
    assert [slot for slot, _ in evicted] == [flood[-1]]
    assert evicted[0][1].status == "UNAVAILABLE"
    assert to.in_flight == 8
    flood[0].release()
    assert not single.waiting


def test_what_triton_has_is_never_taken_back() -> None:
    to, many, one = admission(in_flight=2), Caller(), Caller()
    for _ in range(2):
        enter(to, many)
    with pytest.raises(RequestError):
        to.enter(one)
    assert not evicted


def test_two_callers_that_flood_end_up_with_halves() -> None:
    to, first, second = admission(in_flight=8, at_triton=2), Caller(), Caller()
    for _ in range(8):
        enter(to, first)
    for _ in range(3):
        enter(to, second)
    with pytest.raises(RequestError):
        for _ in range(8):
            enter(to, second)
    held = Counter(slot.caller for slot in to._slots)
    assert held[first] == held[second] == 4


def test_a_request_waits_for_its_turn() -> None:
    async def scene() -> None:
        to, caller = admission(at_triton=1), Caller()
        first, second = enter(to, caller), enter(to, caller)
        await asyncio.wait_for(first.turn(), 1)
        waiting = asyncio.create_task(second.turn())
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scene())


def test_nothing_is_kept_of_callers_that_went() -> None:
    to = admission()
    for _ in range(100):
        enter(to, Caller()).release()
    assert not to._held
    assert not to._at_triton
    budget = UploadBudget(Limits())
    for _ in range(100):
        budget.open().release()
    assert not budget.held_by
    assert not budget.announced_by
    assert not budget.count_of


def announce(budget: UploadBudget, caller: Caller, count: int) -> list[Upload]:
    """So many requests of 128 MB, as many as are let in."""
    set_caller(caller)
    found = []
    for _ in range(count):
        try:
            found.append(budget.open(128 << 20))
        except RequestError:
            break
    return found


def test_one_caller_may_send_half_of_all_at_once_and_a_newcomer_finds_room() -> None:
    budget = UploadBudget(Limits())
    many = copy_context().run(announce, budget, Caller(), 64)
    assert len(many) == 4
    for upload in many:
        upload.grow(128 << 20)
    assert len(copy_context().run(announce, budget, Caller(), 64)) == 2


def test_an_announced_body_that_never_arrives_takes_no_budget_from_others() -> None:
    budget = UploadBudget(Limits())
    for _ in range(50):
        copy_context().run(announce, budget, Caller(), 4)
    (late,) = copy_context().run(announce, budget, Caller(), 1)
    late.grow(128 << 20)


def test_of_many_uploads_that_grow_alike_as_many_are_received_as_fit() -> None:
    """Those that are refused have not been told yet when the next piece of the others comes."""
    budget = UploadBudget(Limits(upload_bytes=10, message_bytes=4))
    alive = {number: copy_context().run(_open_as, budget, Caller()) for number in range(8)}
    for _ in range(4):
        for number, upload in list(alive.items()):
            try:
                upload.grow(1)
            except RequestError:
                del alive[number]
    assert [upload.bytes for upload in alive.values()] == [4, 4]
    assert budget.bytes == 8


def _open_as(budget: UploadBudget, caller: Caller) -> Upload:
    set_caller(caller)
    return budget.open()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_door_knows_how_long_an_answer_may_be(protocol: str, own_triton: FakeTriton) -> None:
    with door_before(own_triton, Limits(at_triton=1)) as door, ThreadPoolExecutor(3) as asking:
        first = asking.submit(ask, protocol, door, "wait|say=first")
        wait_until(lambda: len(own_triton.seen) == 1)
        long = asking.submit(ask, protocol, door, "say=long", max_tokens=1024)
        wait_until(lambda: door.admission.in_flight == 2)
        short = asking.submit(ask, protocol, door, "wait|say=short", max_tokens=1)
        wait_until(lambda: door.admission.in_flight == 3)
        own_triton.go()
        assert [asked.result(30).text for asked in (first, long, short)] == ["first", "long", "short"]
        prompts = [request.raw_input_contents[0] for request in own_triton.seen.values()]
        assert [b"short" in prompt for prompt in prompts] == [False, True, False]
