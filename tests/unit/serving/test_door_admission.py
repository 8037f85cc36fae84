"""Who may come in, without a server."""

import pytest
from tritonclient.grpc import service_pb2

from af3.errors import RequestError
from serving.door.admission import Admission, Limits
from serving.door.metrics import DoorMetrics, joined
from serving.door.request_check import allowed_s, refuse_inner_model
from serving.door.triton_errors import from_triton, step_died
from serving.door.upload_budget import UploadBudget


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


def refusal(admission: Admission) -> RequestError:
    with pytest.raises(RequestError) as refused:
        admission.enter()
    return refused.value


def test_a_full_server_names_a_time_that_follows_the_pace_of_its_answers(admission, clock):
    assert admission.retry_s() == 1
    for _ in range(100):
        slot = admission.enter()
        clock.now += 80
        slot.release()
    admission.enter()
    admission.enter()
    error = refusal(admission)
    assert (error.status, error.retry_s) == ("UNAVAILABLE", 10)
    assert "2 requests are in flight, the most that are accepted; try again in 10 s" in error.message


def test_a_slot_is_free_again_once_and_only_once(admission):
    slot = admission.enter()
    admission.enter()
    slot.release()
    slot.release()
    assert admission.in_flight == 1
    admission.enter()
    assert admission.in_flight == 2


def test_nobody_enters_before_the_server_is_ready_or_while_it_shuts_down(admission):
    admission.ready = False
    assert "is starting; try again in" in refusal(admission).message
    admission.ready = admission.draining = True
    assert "is shutting down; try again in" in refusal(admission).message


def with_timeout(**value: object) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest()
    for kind, timeout in value.items():
        setattr(request.parameters["timeout"], kind, timeout)
    return request


def test_the_shortest_of_the_three_times_counts():
    limits = Limits(timeout_s=10)
    assert allowed_s(limits, None, with_timeout()) == 10
    assert allowed_s(limits, 5.0, with_timeout()) == 5
    assert allowed_s(limits, 5.0, with_timeout(int64_param=2_000_000)) == 2
    assert allowed_s(limits, None, with_timeout(int64_param=60_000_000)) == 10


@pytest.mark.parametrize(
    "bad", [{"int64_param": 0}, {"int64_param": -1}, {"string_param": "5"}, {"double_param": 1.5}]
)
def test_a_timeout_is_a_positive_whole_number(bad):
    with pytest.raises(RequestError, match="must be a positive number of microseconds"):
        allowed_s(Limits(), None, with_timeout(**bad))


def test_a_long_name_of_a_model_is_not_repeated_in_full():
    with pytest.raises(RequestError) as refused:
        refuse_inner_model("x" * 10_000)
    assert len(refused.value.message) < 200


def test_uploads_share_one_budget_and_give_it_back():
    budget = UploadBudget(Limits(in_flight=1, message_bytes=100, upload_bytes=150))
    with budget.open(100) as first:
        first.grow(100)
        with budget.open() as second:
            with pytest.raises(RequestError, match="the most that fit in memory; try again in") as full:
                second.grow(60)
            assert full.value.status == "UNAVAILABLE"
            assert (budget.bytes, budget.count) == (100, 1)  # it holds nothing, before it is told
        with budget.open() as third:
            third.grow(50)
        with pytest.raises(RequestError, match="the most that fit in memory"):
            budget.open(51)
        with pytest.raises(RequestError, match="the limit is 100"):
            budget.open(101)
        with pytest.raises(RequestError, match="the limit is 100") as large:
            first.grow(1)
        assert large.value.status == "RESOURCE_EXHAUSTED"
    assert (budget.bytes, budget.count) == (0, 0)


def test_only_so_many_uploads_are_received_at_once():
    budget = UploadBudget(Limits(in_flight=1))
    uploads = [budget.open() for _ in range(4)]
    with pytest.raises(RequestError, match="4 requests of 0 MB are being received"):
        budget.open()
    uploads[0].release()
    budget.open()


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("in ensemble 'audio_flamingo', UNAVAILABLE: the queue is full", "UNAVAILABLE", "the queue is full"),
        ("INVALID_ARGUMENT: audio[0]: empty: no", "INVALID_ARGUMENT", "audio[0]: empty: no"),
        ("in ensemble 'x', Stub process 'llm_0_0' is not healthy.", "UNAVAILABLE", step_died().message),
        ("[request id: 7] Server is stopping, scheduler …", "UNAVAILABLE", step_died().message),
        (
            "[request id: 7] unexpected shape for input 'prompt'",
            "INVALID_ARGUMENT",
            "unexpected shape for input 'prompt'",
        ),
        # No text of a client can pass for a phrase of Triton's, or for a status of ours.
        (
            "unexpected inference input 'unavailable' for model 'x'",
            "INVALID_ARGUMENT",
            "unexpected inference input 'unavailable' for model 'x'",
        ),
        ("HACKED: yes", "INVALID_ARGUMENT", "HACKED: yes"),
        ("parameter 'Stub process': no", "INVALID_ARGUMENT", "parameter 'Stub process': no"),
        (
            "Failed to process the request(s) for model 'preprocess_0_1', message: Failed to increase the shared"
            " memory pool size for key 'x' to 9 bytes. No space left on device",
            "UNAVAILABLE",
            "the server has too little shared memory (/dev/shm) for this request; send shorter clips, or have its"
            " operator enlarge it",
        ),
    ],
)
def test_what_triton_says_is_said_with_a_status_and_without_our_insides(said, status, message):
    error = from_triton(said)
    assert (error.status, error.message) == (status, message)


def test_a_counter_shows_all_its_values_at_zero_and_never_another():
    metrics = DoorMetrics(lambda: 3, lambda: 1)
    metrics.requests.add("OK")
    metrics.tokens.add("a name of the client's", 5)
    text = metrics.text()
    assert 'af3_requests_total{status="OK"} 1.0' in text
    assert 'af3_requests_total{status="DEADLINE_EXCEEDED"} 0.0' in text
    assert 'af3_tokens_total{model="other"} 5.0' in text
    assert "client's" not in text
    assert "af3_requests_in_flight 3.0" in text


def test_a_metric_of_both_servers_appears_once_in_metrics():
    ours = "# HELP a_total x\n# TYPE a_total counter\na_total 1\n"
    tritons = "# HELP a_total y\n# TYPE a_total counter\na_total 2\n# HELP b z\n# TYPE b gauge\nb 3\n"
    text = joined(ours, tritons)
    assert "a_total 1" in text
    assert "a_total 2" not in text
    assert "b 3" in text
