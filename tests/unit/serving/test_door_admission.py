"""Who may come in, without a server."""

import pytest

from af3.errors import RequestError
from serving.door.admission import Admission, Limits, allowed_s, refuse_inner_model
from serving.door.metrics import Counter, Histogram
from serving.door.sentence import failed, told


class Clock:
    """Time that moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    made = Admission(Limits(in_flight=2), clock)
    made.ready = True
    return made


def refusal(admission: Admission, request_id: str) -> RequestError:
    with pytest.raises(RequestError) as refused:
        admission.enter(request_id)
    return refused.value


def test_a_full_server_names_a_time_that_follows_the_pace_of_its_answers(admission, clock):
    assert admission.retry_s() == 1
    for answer in range(100):
        admission.enter(f"{answer}")
        clock.now += 80
        admission.leave(f"{answer}")
    admission.enter("a")
    admission.enter("b")
    error = refusal(admission, "c")
    assert error.status == "UNAVAILABLE"
    assert "2 requests are in flight, as many as are accepted; try again in 10 s" in error.message


def test_a_place_is_free_again_after_leave(admission):
    admission.enter("a")
    admission.enter("b")
    admission.leave("a")
    admission.enter("a")
    assert admission.in_flight == 2


@pytest.mark.parametrize(("given", "status"), [("", "INVALID_ARGUMENT"), ("x" * 129, "INVALID_ARGUMENT")])
def test_a_request_needs_an_id_that_can_be_kept(admission, given, status):
    assert refusal(admission, given).status == status


def test_nobody_enters_before_the_server_is_ready_or_while_it_leaves(admission):
    admission.ready = False
    assert "is starting; try again in" in refusal(admission, "a").message
    admission.ready = admission.draining = True
    assert "is shutting down; try again in" in refusal(admission, "a").message


def test_the_shortest_of_the_three_times_counts():
    limits = Limits(timeout_s=10)
    assert allowed_s(limits, None, None) == 10
    assert allowed_s(limits, 5.0, None) == 5
    assert allowed_s(limits, 5.0, 2_000_000) == 2
    assert allowed_s(limits, None, 60_000_000) == 10
    with pytest.raises(RequestError, match="must be a positive number of microseconds"):
        allowed_s(limits, None, 0)


def test_a_long_name_of_a_model_is_not_repeated_in_full():
    with pytest.raises(RequestError) as refused:
        refuse_inner_model("x" * 10_000)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("in ensemble 'audio_flamingo', UNAVAILABLE: the queue is full", "UNAVAILABLE", "the queue is full"),
        ("INVALID_ARGUMENT: audio[0]: empty: no", "INVALID_ARGUMENT", "audio[0]: empty: no"),
        ("in ensemble 'x', Stub process 'llm_0_0' is not healthy.", "UNAVAILABLE", failed().message),
        ("[request id: 7] Server is stopping, scheduler …", "UNAVAILABLE", failed().message),
        (
            "[request id: 7] unexpected shape for input 'prompt'",
            "INVALID_ARGUMENT",
            "unexpected shape for input 'prompt'",
        ),
    ],
)
def test_what_triton_says_is_told_with_a_status_and_without_our_insides(said, status, message):
    error = told(said)
    assert (error.status, error.message) == (status, message)


def test_a_histogram_counts_up_to_and_with_each_bound():
    histogram = Histogram("h", "…", (1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 99):
        histogram.observe(seconds)
    assert histogram.lines()[2:] == [
        'h_bucket{le="1.0"} 2',
        'h_bucket{le="2.0"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 102",
        "h_count 4",
    ]


def test_a_counter_shows_the_values_it_was_made_with_at_zero():
    counter = Counter("c", "…", "status", ("OK",))
    counter.add("LATE", 2)
    assert counter.lines()[2:] == ['c{status="OK"} 0', 'c{status="LATE"} 2']
