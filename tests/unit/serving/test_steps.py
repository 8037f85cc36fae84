"""The glue inside Triton's Python processes, and every model.py, with a stand-in for Triton.

Long because one stand-in of Triton serves every step.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from af3 import contract
from af3.errors import RequestError, invalid
from af3.stop import stop_values
from tests.support.echo_decoder import WAIT_S, EchoDecoder
from tests.support.pb_utils_stand_in import (
    InferenceRequest,
    MetricFamily,
    Request,
    TritonError,
    load_model,
)
from tests.support.recalling_decoder import RecallingDecoder
from tests.support.tiny import FOLDER, TOKENIZER, manifest

# isort: split
from serving import journal
from serving.heartbeat import VARIABLE, pulses
from serving.steps import adapter, answers

LONGEST_MODEL = 60


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A manifest and a tokenizer, as `make engines` leaves them."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text((FOLDER / "tokenizer.json").read_text())
    manifest().write(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def fresh() -> None:
    InferenceRequest.sent.clear()
    MetricFamily.values.clear()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# adapter


def test_text_that_is_no_utf8_is_refused() -> None:
    request = Request({"prompt": np.array([b"\xff"], np.object_)})
    with pytest.raises(RequestError, match="prompt: not UTF-8"):
        adapter.text(request, contract.PROMPT)
    assert adapter.text(Request({}), contract.PROMPT) is None


def test_a_refusal_is_told_to_the_client_with_its_status() -> None:
    response = adapter.answer(Request({}), lambda request: refuse(invalid("prompt: empty")))
    assert str(response.error) == "INVALID_ARGUMENT: prompt: empty"
    assert response.error.code == TritonError.INVALID_ARG


def test_every_status_of_a_refusal_has_a_code_of_tritons() -> None:
    for status in adapter.TRITON_CODES:
        adapter.failure(RequestError(status, "x"))  # type: ignore[arg-type]


def test_an_internal_error_shows_a_reference_number_and_logs_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = adapter.answer(Request({}), lambda request: refuse(ValueError("secret path /x")))
    assert "secret" not in str(response.error)
    number = str(response.error).rpartition(" ")[2]
    assert str(response.error).startswith("INTERNAL: internal error, reference ")
    assert number in caplog.text and "secret path /x" in caplog.text


def refuse(error: Exception) -> dict[str, np.ndarray]:
    raise error


def test_a_step_is_journalled_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "journal"))
    adapter.answer(Request({}, "good"), lambda request: {}, "preprocess")
    adapter.answer(Request({}, "bad"), lambda request: refuse(invalid("x")), "preprocess")
    adapter.answer(Request({}, "unnoted"), lambda request: {})
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [(line["id"], line["stage"], line["status"]) for line in lines] == [
        ("good", "preprocess", "OK"),
        ("bad", "preprocess", "INVALID_ARGUMENT"),
    ]


def test_requests_that_are_computed_together_get_their_own_answers_and_their_own_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "journal"))
    calls: list[list[str]] = []

    def read(request: Request) -> str:
        if request.request_id() == "bad":
            raise invalid("pcm: bad")
        return request.request_id()

    def compute(names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        calls.append(list(names))
        time.sleep(0.02)
        return [{"x": np.array([len(name)])} for name in names]

    requests = [Request({}, name) for name in ("a", "bad", "ccc")]
    one, bad, three = adapter.answer_together(requests, read, compute, "audio_encoder")
    assert calls == [["a", "ccc"]]
    assert (one.tensors["x"].tolist(), three.tensors["x"].tolist()) == ([1], [3])
    assert str(bad.error) == "INVALID_ARGUMENT: pcm: bad"
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["OK", "INVALID_ARGUMENT", "OK"]
    assert all(line["ms"] >= 20 for line in lines)  # what they took together


def test_nobody_fails_because_several_together_were_too_many() -> None:
    def compute(names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        if len(names) > 1 or names == ["huge"]:
            raise RequestError("UNAVAILABLE", "audio: the GPU has no memory left")
        return [{"x": np.array([1])} for _ in names]

    requests = [Request({}, name) for name in ("small", "huge", "tiny")]
    small, huge, tiny = adapter.answer_together(
        requests, lambda one: one.request_id(), compute, "audio_encoder"
    )
    assert small.error is None and tiny.error is None
    assert str(huge.error) == "UNAVAILABLE: audio: the GPU has no memory left"


# stream


# The message that stops a request


@pytest.mark.parametrize(
    "step", [contract.AUDIO_ENCODER, contract.LLM, contract.TTS], ids=lambda step: step.name
)
def test_a_stop_holds_the_flag_and_every_input_that_must_be_there(step: contract.Step) -> None:
    values = stop_values(step)
    assert {tensor for tensor in step.inputs if not tensor.optional} | {contract.STOP} == set(values)
    assert values[contract.STOP].all() and values[contract.STOP].dtype == np.bool_
    assert all(value.shape == (1,) * (len(tensor.dims) + step.batched) for tensor, value in values.items())


def test_the_llm_is_stopped_under_the_requests_own_id() -> None:
    answers.stop_llm("mine")
    (sent,) = InferenceRequest.sent
    assert (sent.model_name, sent.request_id) == ("llm", "mine")
    stop = {tensor.name(): tensor.as_numpy() for tensor in sent.inputs}
    assert stop["stop"].tolist() == [[True]]


# Every model.py


@pytest.mark.parametrize("step", ["preprocess", "audio_encoder", "llm", "postprocess", "tts"])
def test_a_model_py_is_short(step: str) -> None:
    text = (Path(__file__).parents[3] / "model_repository" / step / "1" / "model.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= LONGEST_MODEL


def test_preprocess_answers_and_refuses(engines: Path) -> None:
    model = load_model("preprocess", engines, niceness=0)
    good = Request({"prompt": np.array([b"Why?"], np.object_)}, max_tokens=3, repetition_penalty=1.2)
    bad = Request({}, "id")
    answered, refused = model.execute([good, bad])
    assert answered.error is None
    assert set(answered.tensors) == {tensor.name for tensor in contract.PREPROCESS.outputs}
    assert answered.tensors["request_output_len"].tolist() == [[3]]
    assert str(refused.error).startswith("INVALID_ARGUMENT: neither of prompt and messages")


class Encoder:
    """Every window gives one row that holds its length."""

    def parts(self, windows: Sequence[Any]) -> list[list[int]]:
        return [[index] for index in range(len(windows))]

    def encode(self, windows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.full((1, 4), len(window.samples), np.float32) for window in windows]

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(embeddings)[None]


@pytest.mark.parametrize("in_turns", [False, True], ids=["together", "in turns"])
def test_audio_encoder_answers_each_request_alone(
    engines: Path, monkeypatch: pytest.MonkeyPatch, in_turns: bool
) -> None:
    monkeypatch.setattr("af3.encoder.choose.AudioEncoder.load", lambda *words: Encoder())
    model = load_model(
        "audio_encoder",
        engines,
        in_turns=in_turns,
        provider="CPUExecutionProvider",
        threads=1,
        embedding_cache_mib=1,
        niceness=0,
    )

    def request(*lengths: int) -> Request:
        size = max(lengths, default=0)
        pcm = np.zeros((1, len(lengths), size), np.float32)
        return Request(
            {
                "pcm": pcm,
                "pcm_lengths": np.array([lengths], np.int32),
                "window_index": np.arange(len(lengths), dtype=np.int32)[None],
            }
        )

    def answers(*requests: Request) -> list[Any]:
        if not in_turns:
            return model.execute(requests)
        model.execute(requests)
        until(lambda: all(one.sender.finals for one in requests))
        return [one.sender.responses[0] for one in requests]

    one, silent, again = answers(request(4_000, 8_000), request(), request(4_000))
    assert one.tensors["prompt_embedding_table"][0, :, 0].tolist() == [4_000, 8_000]
    assert silent.error is None and silent.tensors == {}
    assert again.tensors["prompt_embedding_table"][0, :, 0].tolist() == [4_000]
    until(lambda: figures() == (1, 2))
    answers(request(4_000), request(2_000))
    until(lambda: figures() == (2, 3))
    model.finalize()


def figures() -> tuple[float, float]:
    values = MetricFamily.values
    return values["af3_embedding_cache_hits"], values["af3_embedding_cache_misses"]


@pytest.fixture
def llm(engines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("af3.llm.choose.Decoder", lambda *words: EchoDecoder())
    model = load_model("llm", engines, slots=4, max_queue=8, prefill_tokens=16, threads=1)
    yield model
    model.finalize()


def test_the_supervisor_sees_an_llm_at_work_and_at_rest(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/heart-")
    decoder = EchoDecoder()
    decoder.go_on.clear()
    monkeypatch.setattr("af3.llm.choose.Decoder", lambda *words: decoder)
    model = load_model("llm", engines, slots=4, max_queue=8, prefill_tokens=16, threads=1)
    assert not pulses(f"{tmp_path}/heart-")[0].working
    request = llm_request([5], 2)
    model.execute([request])
    assert decoder.decoding.wait(WAIT_S)
    assert pulses(f"{tmp_path}/heart-")[0].working
    decoder.go_on.set()
    until(lambda: request.sender.finals == 1)
    until(lambda: not pulses(f"{tmp_path}/heart-")[0].working)
    model.finalize()


@pytest.mark.parametrize("in_turns", [False, True], ids=["together", "in turns"])
def test_the_supervisor_sees_every_window_that_is_encoded(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_turns: bool
) -> None:
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/heart-")
    seen: list[float] = []  # how long the work had not moved on when a window began
    since: list[float] = []  # how long ago the request, or the window before it, was there
    there: list[float] = []

    class Session:
        def get_outputs(self) -> list[Any]:
            return [SimpleNamespace(shape=[None, None, 4])]

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="pcm"), SimpleNamespace(name="pcm_lengths")]

        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            (pulse,) = pulses(f"{tmp_path}/heart-")
            assert pulse.working
            seen.append(pulse.still_s)
            since.append(time.monotonic() - there[-1])
            time.sleep(0.3)
            there.append(time.monotonic())
            return [np.zeros((len(inputs["pcm"]), 750, 4), np.float32)]

    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *words, **options: Session())
    model = load_model(
        "audio_encoder",
        engines,
        in_turns=in_turns,
        provider="CPUExecutionProvider",
        threads=1,
        embedding_cache_mib=0,
        niceness=0,
    )
    pcm = np.zeros((1, 2, 480_000), np.float32)
    lengths = np.full((1, 2), 480_000, np.int32)
    index = np.arange(2, dtype=np.int32)[None]
    request = Request({"pcm": pcm, "pcm_lengths": lengths, "window_index": index})
    there.append(time.monotonic())
    for response in model.execute([request]) or []:
        request.sender.send(response, 1)
    until(lambda: request.sender.finals == 1)
    assert request.sender.responses[0].error is None
    assert len(seen) == 2 and all(still <= ago for still, ago in zip(seen, since, strict=True))
    until(lambda: not pulses(f"{tmp_path}/heart-")[0].working)
    model.finalize()


def llm_request(prompt: Sequence[int], tokens: int, request_id: str = "id", **more: np.ndarray) -> Request:
    tensors = {
        "input_ids": np.array([prompt], np.int32),
        "input_lengths": np.array([[len(prompt)]], np.int32),
        "request_output_len": np.array([[tokens]], np.int32),
        "streaming": np.array([[True]]),
    }
    return Request(tensors | more, request_id)


def test_llm_streams_its_tokens_and_ends(llm: Any) -> None:
    request = llm_request([5], 3)
    llm.execute([request])
    until(lambda: request.sender.finals == 1)
    sent = [response.tensors["output_ids"].reshape(-1) for response in request.sender.responses]
    assert np.concatenate(sent).tolist() == [6, 7, 8]


def test_llm_says_how_much_it_read_kept_and_generated(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af3.llm.choose.Decoder", lambda *words: RecallingDecoder())
    settings = {"slots": 4, "max_queue": 8, "prefill_tokens": 16, "threads": 1, "prefix_cache_mib": 1}
    model = load_model("llm", engines, **settings)
    counted = ("prompt_tokens", "cached_tokens", "prefix_cache_bytes", "generated_tokens")
    names = [f"af3_llm_{name}" for name in counted]
    before = [MetricFamily.values[name] for name in names]
    for number in range(2):
        request = llm_request([7] * 40, 3, f"{number}")
        model.execute([request])
        until(lambda request=request: request.sender.finals == 1)
    model.finalize()
    after = [MetricFamily.values[name] for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [80, 32, 32 * 4, 6]


def test_llm_refuses_what_is_malformed_and_serves_the_next(llm: Any) -> None:
    bad, good = llm_request([], 3, "bad"), llm_request([5], 1, "good")
    llm.execute([bad, good])
    assert bad.error.startswith("INVALID_ARGUMENT: input_ids") and bad.sender.finals == 1
    until(lambda: good.sender.finals == 1)


def test_llm_is_stopped_by_a_request_with_the_same_id(llm: Any) -> None:
    endless = llm_request([5], 9_000, "a")
    llm.execute([endless])
    until(lambda: len(endless.sender.responses) > 3)
    stop = Request({tensor.name: value for tensor, value in stop_values(contract.LLM).items()}, "a")
    llm.execute([stop])
    assert stop.sender.finals == 1 and stop.sender.responses == []
    until(lambda: endless.sender.finals == 1)
    assert len(endless.sender.responses) < 9_000


@pytest.fixture
def postprocess(engines: Path) -> Iterator[Any]:
    model = load_model("postprocess", engines, idle_s=0.2)
    yield model
    model.finalize()


def push(
    model: Any, ids: Sequence[int], request_id: str = "a", gone: bool = False, **parameters: object
) -> Request:
    request = Request({"output_ids": np.array([[ids]], np.int32).reshape(1, 1, -1)}, request_id, **parameters)
    request.sender.gone = gone
    model.execute([request])
    assert request.sender.finals == 1
    return request


def test_postprocess_answers_with_a_delta(postprocess: Any) -> None:
    request = push(postprocess, TOKENIZER.encode("Hi"), max_tokens=50)
    (response,) = request.sender.responses
    found = {name: value.tolist() for name, value in response.tensors.items()}
    assert found["text"] == [b"Hi"] and found["finish_reason"] == [b""]
    assert found["index"] == [0] and found["token_count"] == [len(TOKENIZER.encode("Hi"))]
    (last,) = push(postprocess, []).sender.responses
    assert last.tensors["finish_reason"].tolist() == [b"stop"]
    assert MetricFamily.values["af3_answers_live"] == 0


def test_postprocess_sends_reasoning_only_where_there_is_some(postprocess: Any) -> None:
    (thought,) = push(postprocess, TOKENIZER.encode("<think>drops"), max_tokens=50).sender.responses
    (answered,) = push(postprocess, TOKENIZER.encode("</think>rain")).sender.responses
    assert (thought.tensors["thinking"].tolist(), thought.tensors["text"].tolist()) == ([b"drops"], [b""])
    assert "thinking" not in answered.tensors and answered.tensors["text"].tolist() == [b"rain"]


def test_postprocess_stops_the_llm_of_a_client_that_left(postprocess: Any) -> None:
    push(postprocess, TOKENIZER.encode("x"), "left", gone=True, max_tokens=50)
    assert [sent.request_id for sent in InferenceRequest.sent] == ["left"]
    assert MetricFamily.values["af3_answers_cancelled"] == 1


def test_postprocess_sends_a_wrong_parameter_back_as_an_error(postprocess: Any) -> None:
    assert push(postprocess, [1], colour=1).error.startswith("INVALID_ARGUMENT: parameter 'colour'")


def test_postprocess_forgets_an_answer_that_breaks_off(postprocess: Any) -> None:
    push(postprocess, TOKENIZER.encode("x"), max_tokens=50)
    assert MetricFamily.values["af3_answers_live"] == 1
    until(lambda: MetricFamily.values["af3_answers_live"] == 0)


def test_a_request_without_its_tensor_is_refused(postprocess: Any) -> None:
    request = Request({}, "a")
    postprocess.execute([request])
    assert request.error == "INVALID_ARGUMENT: output_ids: missing"


def tts_request(
    text: str,
    index: int,
    reason: str = "",
    request_id: str = "a",
    thinking: np.ndarray | None = None,
    **parameters: object,
) -> Request:
    tensors = {
        "text": np.array([text.encode()], np.object_),
        "finish_reason": np.array([reason.encode()], np.object_),
        "token_count": np.array([index + 1], np.int32),
        "index": np.array([index], np.int32),
        "token_ids": np.array([1], np.int32),
    }
    if thinking is not None:
        tensors["thinking"] = thinking
    return Request(tensors, request_id, **parameters)


@pytest.fixture
def tts(engines: Path) -> Iterator[Any]:
    model = load_model("tts", engines, provider="CPUExecutionProvider", threads=1, idle_s=30, fallback="off")
    yield model
    model.finalize()


def test_tts_passes_the_text_on_at_once_and_then_speaks_it(tts: Any) -> None:
    first, last = tts_request("Hello. ", 0), tts_request("It is a bell.", 1, "stop")
    tts.execute([first])
    assert first.sender.responses[0].tensors["text"].tolist() == [b"Hello. "]
    tts.execute([last])
    until(lambda: first.sender.finals == 1 and last.sender.finals == 1)
    spoken = [r.tensors for q in (first, last) for r in q.sender.responses if "speech" in r.tensors]
    assert sum(len(one["speech"]) for one in spoken) > 4_000
    assert b"".join(one["speech_text"][0] for one in spoken if "speech_text" in one).startswith(b"Hello.")
    assert MetricFamily.values["af3_speech_failures"] == 0


def test_tts_passes_reasoning_on_and_never_speaks_it(tts: Any) -> None:
    thought = np.array([b"A long thought, which nobody hears. "], np.object_)
    first, last = tts_request("", 0, thinking=thought), tts_request("It is a bell.", 1, "stop")
    for request in (first, last):
        tts.execute([request])
    until(lambda: last.sender.finals == 1)
    assert first.sender.responses[0].tensors["thinking"].tolist() == [b"A long thought, which nobody hears. "]
    sent = [response.tensors for request in (first, last) for response in request.sender.responses]
    assert b"".join(one["speech_text"][0] for one in sent if "speech_text" in one) == b"It is a bell."
    assert "thinking" not in last.sender.responses[0].tensors


def test_tts_passes_the_text_on_where_the_voice_is_not_there(tts: Any) -> None:
    request = tts_request("Hello.", 0, "stop", voice="nobody")
    tts.execute([request])
    until(lambda: request.sender.finals == 1)
    text, error = (response.tensors for response in request.sender.responses)
    assert text["text"].tolist() == [b"Hello."]
    assert b"nobody" in error["speech_error"][0]


def test_tts_is_stopped_by_a_request_with_the_same_id(tts: Any) -> None:
    speaking = tts_request("One. " * 40, 0)
    tts.execute([speaking])
    stop = Request({tensor.name: value for tensor, value in stop_values(contract.TTS).items()}, "a")
    tts.execute([stop])
    assert stop.sender.finals == 1
    until(lambda: speaking.sender.finals == 1)
