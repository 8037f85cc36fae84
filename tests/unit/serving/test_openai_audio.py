"""/v1/audio/… through OpenAI's own client, judged by its types; Triton is a stand-in."""

import io
import wave
from typing import Any

import openai
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)

from serving.door.door import Door
from serving.door.openai import transcription_request
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import (
    MODEL,
    asked,
    client,
    form,
    inputs,
    parameters,
    post,
    request,
    valid,
)

HOST = "127.0.0.1"
TRANSCRIPTIONS, TRANSLATIONS, SPEECH = (
    f"/v1/audio/{one}" for one in ("transcriptions", "translations", "speech")
)
SAID = "say= Hello there.|tokens=120,75"
FILE = ("clip.wav", bytes(range(256)) * 5000 + b"\r\n--not-the-end\r\n", "audio/wav")


@pytest.fixture(autouse=True)
def questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question tells the stand-in what to do."""
    for task in ("transcribe", "translate"):
        monkeypatch.setitem(transcription_request.QUESTIONS, task, f"{SAID}|{task}")


def test_a_transcription(triton: FakeTriton, door: Door) -> None:
    found = client(door).audio.transcriptions.create(file=FILE, model=MODEL)
    assert found.text == "Hello there."
    assert inputs(asked(triton)) == {"audio": [FILE[1]], "prompt": [f"{SAID}|transcribe".encode()]}
    body, header = form({"model": MODEL}, FILE[1])
    reply = request(door, "POST", TRANSCRIPTIONS, body, header)
    assert valid(Transcription, reply.json).usage.to_dict() == {
        "type": "tokens",
        "input_tokens": 120,
        "input_token_details": {"audio_tokens": 75, "text_tokens": 45},
        "output_tokens": 1,
        "total_tokens": 121,
    }


def test_a_translation(triton: FakeTriton, door: Door) -> None:
    assert client(door).audio.translations.create(file=FILE, model=MODEL).text == "Hello there."
    assert inputs(asked(triton))["prompt"] == [f"{SAID}|translate".encode()]


def test_the_questions_are_those_the_model_was_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert transcription_request.QUESTIONS["transcribe"] == "Transcribe the input speech."


@pytest.mark.parametrize("task", ["transcriptions", "translations"])
def test_formats_of_a_transcription(task: str, door: Door) -> None:
    asking = getattr(client(door).audio, task)
    assert asking.create(file=FILE, model=MODEL, response_format="text") == "Hello there.\n"
    assert asking.create(file=FILE, model=MODEL, response_format="srt") == (
        "1\n00:00:00,000 --> 00:00:03,000\nHello there.\n\n"
    )
    assert asking.create(file=FILE, model=MODEL, response_format="vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\nHello there.\n\n"
    )


def test_verbose_json_has_one_segment(door: Door) -> None:
    found = client(door).audio.transcriptions.create(
        file=FILE, model=MODEL, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (found.duration, found.text) == (3.0, "Hello there.")
    (segment,) = found.segments
    assert (segment.start, segment.end, segment.text, segment.tokens) == (0.0, 3.0, "Hello there.", [0])
    body, header = form({"model": MODEL, "response_format": "verbose_json"}, b"a")
    found = request(door, "POST", TRANSCRIPTIONS, body, header).json
    assert found.pop("task") == "transcribe"  # OpenAI sends it, its type lacks it
    valid(TranscriptionVerbose, found)


def test_a_streamed_transcription(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transcription_request.QUESTIONS, "transcribe", "say= Hi|many=3|tokens=9,5")
    events = list(client(door).audio.transcriptions.create(file=FILE, model=MODEL, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:3]) == events[3].text == "Hi Hi Hi"
    body, header = form({"model": MODEL, "stream": "true"}, b"a")
    found = list(request(door, "POST", TRANSCRIPTIONS, body, header).events())
    for one in found[:3]:
        valid(TranscriptionTextDeltaEvent, one)
    assert valid(TranscriptionTextDoneEvent, found[3]).usage.input_tokens == 9


def test_fields_of_a_transcription_reach_the_server(triton: FakeTriton, door: Door) -> None:
    fields = {"temperature": "0.5", "language": "en", "prompt": "Names: Ann.", "seed": "3", "top_k": "4"}
    body, header = form({"model": MODEL, "chunking_strategy": "auto", **fields}, b"a")
    assert request(door, "POST", TRANSCRIPTIONS, body, header).status == 200
    assert parameters(asked(triton)) == {"temperature": 0.5, "seed": 3, "top_k": 4}
    assert inputs(asked(triton))["prompt"] == [f"{SAID}|transcribe Names: Ann.".encode()]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "words": (
        {"timestamp_granularities[]": "word", "response_format": "verbose_json"},
        "timestamp_granularities",
    ),
    "segments of text": ({"timestamp_granularities[]": "segment"}, "timestamp_granularities"),
    "speakers": ({"known_speaker_names[]": ["a", "b"]}, "known_speaker_names"),
    "references": ({"known_speaker_references[]": "a"}, "known_speaker_references"),
    "log probabilities": ({"include[]": "logprobs"}, "include"),
    "keywords": ({"keywords[]": "a"}, "keywords"),
    "languages": ({"languages[]": "de"}, "languages"),
    "a language": ({"language": "de"}, "language"),
    "chunks": ({"chunking_strategy": '{"type": "server_vad"}'}, "chunking_strategy"),
    "a format": ({"response_format": "diarized_json"}, "response_format"),
    "a streamed format": ({"response_format": "srt", "stream": "true"}, "response_format"),
    "no truth": ({"stream": "perhaps"}, "stream"),
    "no number": ({"temperature": "warm"}, "temperature"),
    "an unknown field": ({"colour": "red"}, "colour"),
    "a field twice": ({"language": ["en", "en"]}, "language"),
    "a long field": ({"prompt": "a" * 100_000}, "prompt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_transcription_cannot_do_is_refused_by_name(name: str, door: Door) -> None:
    fields, param = REFUSED[name]
    body, header = form({"model": MODEL, **fields}, b"a")
    reply = request(door, "POST", TRANSCRIPTIONS, body, header)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_no_field_of_a_transcription_is_dropped_silently() -> None:
    from openai.types.audio import transcription_create_params as params

    theirs = {*params.TranscriptionCreateParamsBase.__annotations__, "stream"}
    ours = {*transcription_request.NOT_DONE, *transcription_request.NUMBERS}
    read = {"file", "model", "prompt", "response_format", "language", "chunking_strategy", "stream"}
    assert theirs <= ours | read | {"timestamp_granularities"}


def test_a_malformed_form_is_refused(door: Door) -> None:
    body, header = form({"model": MODEL}, b"a")
    for data, kind in (
        (b"", header),
        (b"{}", {"content-type": "application/json"}),
        (body, {"content-type": "multipart/form-data"}),
        (body, {"content-type": "multipart/form-data; boundary=other"}),
        (body[:-20], header),
        (body.replace(b"Content-Disposition: ", b"x" * 5000 + b": "), header),
        (b"".join([body[:100]] * 200), header),
    ):
        reply = request(door, "POST", TRANSCRIPTIONS, data, kind)
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    for fields, file, param in (({}, b"a", "model"), ({"model": MODEL}, None, "file")):
        body, header = form(fields, file)
        assert request(door, "POST", TRANSCRIPTIONS, body, header).error["param"] == param
    with pytest.raises(openai.NotFoundError):
        client(door).audio.transcriptions.create(file=FILE, model="whisper-1")


def test_a_clip_that_is_refused_is_the_file(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    error = "error=in ensemble 'x', INVALID_ARGUMENT: audio[0]: no sound"
    monkeypatch.setitem(transcription_request.QUESTIONS, "transcribe", error)
    with pytest.raises(openai.BadRequestError) as refused:
        client(door).audio.transcriptions.create(file=FILE, model=MODEL)
    assert (refused.value.param, refused.value.body["message"]) == ("file", "audio[0]: no sound")


def speak(door: Door, text: str, **fields: Any) -> bytes:
    return (
        client(door)
        .audio.speech.create(**{"model": "speech", "voice": "alloy", "input": text, **fields})
        .read()
    )


def test_speech_as_wav_streams(triton: FakeTriton, door: Door) -> None:
    with client(door).audio.speech.with_streaming_response.create(
        model="speech", voice="nova", input="many=3|big=3200", response_format="wav", speed=1.5
    ) as reply:
        assert reply.headers["content-type"] == "audio/wav"
        assert "content-length" not in reply.headers
        data = b"".join(reply.iter_bytes())
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.readframes(1 << 20)) == (16_000, bytes(9600))
    assert asked(triton).model_name == "speech"
    assert inputs(asked(triton)) == {"text": [b"many=3|big=3200"]}
    assert parameters(asked(triton)) == {"rate": 1.5, "voice": "nova"}


def test_speech_as_pcm_is_at_24_khz(door: Door) -> None:
    assert len(speak(door, "many=2|big=32000", response_format="pcm")) == 2 * 48_000


def test_speech_is_mp3_unless_asked_otherwise(triton: FakeTriton, door: Door) -> None:
    assert speak(door, "big=32000")[:3] in (b"ID3", b"\xff\xf3\x64", b"\xff\xf3\x44")
    assert speak(door, "big=32000", response_format="opus", voice="en-gb")[:4] == b"OggS"
    assert parameters(asked(triton)) == {"voice": "en-gb"}


SPEECH_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "events": ({"stream_format": "sse"}, "stream_format"),
    "a format": ({"response_format": "midi"}, "response_format"),
    "a speed": ({"speed": "fast"}, "speed"),
    "an unknown field": ({"colour": "red"}, "colour"),
    "no words": ({"input": "say=hi"}, "input"),
    "no text": ({"input": 5}, "input"),
    "a text": ({"input": "error=in ensemble 'x', INVALID_ARGUMENT: text: empty"}, "input"),
    "a voice": ({"input": "error=in ensemble 'x', INVALID_ARGUMENT: parameter 'voice': no"}, "voice"),
    "a rate": ({"input": "error=in ensemble 'x', INVALID_ARGUMENT: parameter 'rate': no"}, "speed"),
}


def test_instructions_for_the_voice_are_taken_and_change_nothing(triton: FakeTriton, door: Door) -> None:
    plain = speak(door, "big=32000", response_format="wav", voice="marin")
    assert speak(door, "big=32000", response_format="wav", voice="marin", instructions="Whisper.") == plain
    assert parameters(asked(triton)) == {"voice": "marin"}


@pytest.mark.parametrize("sound", ["wav", "flac"])
@pytest.mark.parametrize("name", SPEECH_REFUSED)
def test_speech_that_is_refused(name: str, sound: str, door: Door) -> None:
    fields, param = SPEECH_REFUSED[name]
    reply = post(door, SPEECH, {"model": "speech", "input": "a", "response_format": sound, **fields})
    assert (reply.status, reply.error["param"]) == (400, param)


def test_no_field_of_speech_is_dropped_silently() -> None:
    from openai.types.audio import speech_create_params as params

    from serving.door.openai import speech_request

    theirs = set(params.SpeechCreateParams.__annotations__)
    assert theirs <= {
        *speech_request.NOT_DONE,
        *speech_request.SpeechRequest.model_fields,
        *speech_request.WITHOUT_EFFECT,
    }


def test_speech_of_another_model(door: Door) -> None:
    reply = post(door, SPEECH, {"model": MODEL, "input": "a"})
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")


def test_a_voice_that_fails_ends_the_file(door: Door) -> None:
    reply = post(door, SPEECH, {"model": "speech", "input": "mute=gone", "response_format": "wav"})
    assert (reply.status, reply.error["message"]) == (500, "the voice failed: gone")
