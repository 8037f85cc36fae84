"""What the clients make of a stream; against a stand-in for the server (see client_stand_in.py)."""

import asyncio
import gc
import hashlib
import socket
import threading

import grpc
import pytest

from clients import AsyncAudioFlamingo, AudioFlamingo, AudioFlamingoError, ServerNotReachable
from tests.support.client_stand_in import Response, StandIn, answer, delta, empty_final, endless, refusal

WAIT_S = 20


@pytest.fixture
def server():
    with StandIn() as running:
        yield running


def _read(url, **options):
    """All deltas, by the sync client."""
    with AudioFlamingo(url) as flamingo:
        return list(flamingo.ask([], "?", **options))


def _read_async(url, **options):
    """All deltas, by the asyncio client."""

    async def read():
        async with AsyncAudioFlamingo(url) as flamingo:
            return [delta async for delta in flamingo.ask([], "?", **options)]

    return asyncio.run(asyncio.wait_for(read(), WAIT_S))


both_clients = pytest.mark.parametrize("read", [_read, _read_async])


@both_clients
def test_deltas_come_in_order_and_the_empty_last_response_is_left_out(server, read):
    server.behave = answer("Ein ", "Hünd", "")
    deltas = read(server.url)
    assert [(d.text, d.finish_reason, d.index, d.token_ids) for d in deltas] == [
        ("Ein ", "", 0, (100,)),
        ("Hünd", "", 1, (101,)),
        ("", "stop", 2, (102,)),
    ]


@both_clients
def test_the_affinity_key_and_the_real_status_header_are_sent_as_metadata(server, read):
    read(server.url)
    read(server.url)
    first, second = server.metadata
    assert first["triton_grpc_error"] == "true"
    assert first["x-af3-affinity"] == second["x-af3-affinity"] == hashlib.sha256(b"?").hexdigest()[:16]


@both_clients
def test_an_answer_that_a_proxy_resets_is_a_lost_server(server, read):
    """Envoy: INTERNAL for an answer that had begun when its server was killed, UNAVAILABLE for one that had not."""
    for code, said in (
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        (
            grpc.StatusCode.UNAVAILABLE,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        ),
    ):
        server.behave = refusal(code, said)
        with pytest.raises(
            ServerNotReachable, match="was lost before the answer was complete; ask again"
        ) as caught:
            read(server.url)
        assert caught.value.status == "UNAVAILABLE"


@both_clients
@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_server_that_ends_an_answer_says_why(server, read, code):
    server.behave = refusal(code, "the client did not read its answers; read them as they come")
    with pytest.raises(AudioFlamingoError, match="did not read its answers") as caught:
        read(server.url)
    assert caught.value.status == code.name


@both_clients
def test_a_refusal_keeps_its_status_and_loses_tritons_prefix(server, read):
    server.behave = refusal(grpc.StatusCode.INVALID_ARGUMENT, "in ensemble 'x', audio[0]: it's empty")
    with pytest.raises(AudioFlamingoError) as caught:
        read(server.url)
    assert (caught.value.status, caught.value.message) == ("INVALID_ARGUMENT", "audio[0]: it's empty")


def _stop(url):
    with AudioFlamingo(url) as flamingo:
        flamingo.stop_speech("a")


def _stop_async(url):
    async def stop():
        async with AsyncAudioFlamingo(url) as flamingo:
            await flamingo.stop_speech("a")

    asyncio.run(asyncio.wait_for(stop(), WAIT_S))


@pytest.mark.parametrize("stop", [_stop, _stop_async])
def test_speech_is_stopped_by_a_request_with_the_id_of_the_answer(server, stop):
    server.behave = lambda request, context: iter([empty_final()])
    stop(server.url)
    assert [(request.model_name, request.id) for request in server.requests] == [("tts", "a")]


@pytest.mark.parametrize("stop", [_stop, _stop_async])
@pytest.mark.parametrize(
    "behave",
    [
        lambda request, context: iter([Response(error_message="UNAVAILABLE: model 'tts' is not ready")]),
        lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "model 'tts' is not ready"),
    ],
)
def test_speech_that_could_not_be_stopped_is_an_error(server, stop, behave):
    server.behave = behave
    with pytest.raises(AudioFlamingoError, match="model 'tts' is not ready") as caught:
        stop(server.url)
    assert caught.value.status == "UNAVAILABLE"


@both_clients
@pytest.mark.parametrize(
    ("sentence", "error"),
    [
        ("in ensemble 'x', INVALID_ARGUMENT: audio[0]: empty", ("INVALID_ARGUMENT", "audio[0]: empty")),
        ("in ensemble 'x', audio[0]: empty", ("UNKNOWN", "audio[0]: empty")),
        ("unknown model: 'x'", ("UNKNOWN", "unknown model: 'x'")),
    ],
)
def test_an_error_inside_a_response_is_an_error(server, read, sentence, error):
    server.behave = lambda request, context: iter([Response(error_message=sentence)])
    with pytest.raises(AudioFlamingoError) as caught:
        read(server.url)
    assert (caught.value.status, caught.value.message) == error


@both_clients
@pytest.mark.parametrize(
    "responses",
    [
        [delta("a", 0), delta("c", 2, "stop")],
        [delta("a", 0, "stop"), delta("b", 1)],
        [delta("a", 0), delta("a", 0, "stop")],
    ],
    ids=["lost", "after the end", "twice"],
)
def test_a_stream_out_of_order_is_an_error(server, read, responses):
    server.behave = lambda request, context: iter([*responses, empty_final()])
    with pytest.raises(AudioFlamingoError, match="broke the order"):
        read(server.url)


@both_clients
def test_a_stream_without_an_end_is_an_error(server, read):
    server.behave = lambda request, context: iter([delta("half", 0), empty_final()])
    with pytest.raises(AudioFlamingoError, match="ended after 1 tokens without a finish reason"):
        read(server.url)


@both_clients
def test_the_deadline_ends_an_answer_and_says_how_far_it_came(server, read):
    server.behave = endless
    with pytest.raises(AudioFlamingoError, match=r"within 0\.5 s \(\d+ tokens came\)") as caught:
        read(server.url, timeout_s=0.5)
    assert caught.value.status == "DEADLINE_EXCEEDED"


@both_clients
def test_a_server_that_is_not_there_is_named_with_the_remedy(read):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerNotReachable, match=f"no server at {url}.*make serve"):
            read(url)


@both_clients
def test_a_full_queue_is_not_taken_for_a_missing_server(server, read):
    server.behave = refusal(grpc.StatusCode.UNAVAILABLE, "the queue is full; try again")
    with pytest.raises(AudioFlamingoError, match="queue is full") as caught:
        read(server.url)
    assert not isinstance(caught.value, ServerNotReachable)


def _watched(gone: threading.Event):
    def behave(request, context):
        if not context.add_callback(gone.set):  # it has gone already
            gone.set()
        yield from endless(request, context)

    return behave


def _cancel(answer):
    answer.cancel()


def _leave_block(answer):
    with answer:
        pass


@pytest.mark.parametrize("end", [_cancel, _leave_block])
def test_ending_an_answer_early_reaches_the_server(server, end):
    gone = threading.Event()
    server.behave = _watched(gone)
    with AudioFlamingo(server.url) as flamingo:
        running = flamingo.ask([], "?")
        next(iter(running))
        end(running)
        assert gone.wait(WAIT_S)
        with pytest.raises(AudioFlamingoError, match="cancelled after"):
            running.text()


def test_dropping_an_answer_reaches_the_server(server):
    gone = threading.Event()
    server.behave = _watched(gone)
    with AudioFlamingo(server.url) as flamingo:
        for _ in flamingo.ask([], "?"):
            break
        gc.collect()
        assert gone.wait(WAIT_S)


def test_cancelling_one_answer_leaves_the_others_alone(server):
    server.behave = endless
    with AudioFlamingo(server.url) as flamingo:
        first, second = flamingo.ask([], "?"), flamingo.ask([], "?")
        deltas = iter(second)
        next(iter(first))
        first.cancel()
        assert [next(deltas).index for _ in range(200)] == list(range(200))


def test_cancelling_an_asyncio_answer_reaches_the_server(server):
    gone = threading.Event()
    server.behave = _watched(gone)

    async def read():
        async with AsyncAudioFlamingo(server.url) as flamingo:
            running = flamingo.ask([], "?")
            async for _ in running:
                running.cancel()

    with pytest.raises(AudioFlamingoError, match="cancelled after"):
        asyncio.run(asyncio.wait_for(read(), WAIT_S))
    assert gone.wait(WAIT_S)


def test_cancelling_the_task_that_reads_reaches_the_server(server):
    gone = threading.Event()
    server.behave = _watched(gone)

    async def read():
        async with AsyncAudioFlamingo(server.url) as flamingo:
            task = asyncio.create_task(flamingo.ask([], "?").text())
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, WAIT_S)

    asyncio.run(asyncio.wait_for(read(), WAIT_S))
