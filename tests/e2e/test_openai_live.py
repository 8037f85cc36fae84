"""The OpenAI API before the live server: the answers, and the refusals, of the other protocols."""

import base64
import io
import re
import wave
from typing import Any

import openai
import pytest

from serving.door.door import Door
from tests.e2e.test_refusals import REFUSED
from tests.support import scrape
from tests.support.clips import clip, file_bytes, sound
from tests.support.openai_api import (
    CHAT,
    MODEL,
    SPOKEN,
    base64_of,
    client,
    post,
    user,
    valid_chunk,
    valid_completion,
)
from tests.support.two_protocols import ask as ask_either
from tests.support.wire import Stream, ids_of
from tests.support.wire import ask as ask_grpc

GREEDY = {"max_tokens": 16}
SAMPLED = {"max_tokens": 16, "temperature": 1.2, "top_p": 0.9, "seed": 5}
CLIPS = [clip(1.0, seed=3), clip(0.6, seed=4)]
TURNS = [
    user("What is it?", CLIPS[0]),
    {"role": "assistant", "content": "A siren."},
    user("And this one?", CLIPS[1]),
]


def kserve(messages: list[Any]) -> list[Any]:
    """The same conversation with the clips beside it."""
    return [
        message
        if isinstance(message["content"], str)
        else {
            **message,
            "content": [
                {"type": "audio"} if part["type"] == "input_audio" else part for part in message["content"]
            ],
        }
        for message in messages
    ]


def http_ids(door: Door, messages: list[Any], parameters: dict[str, Any]) -> list[int]:
    uris = ["data:audio/wav;base64," + base64_of(one) for one in CLIPS[: len(messages) // 2 + 1]]
    asked = {"audio": uris, "messages": kserve(messages), **parameters}
    return post(door, "/v2/models/audio_flamingo/generate", asked).json["token_ids"]


@pytest.mark.parametrize("parameters", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("turns", [1, 3], ids=["one turn", "clips in two turns"])
def test_the_same_question_gives_the_same_token_ids_over_every_protocol(
    turns: int, parameters: dict[str, Any], server: Door
) -> None:
    messages = TURNS[:turns]
    clips = CLIPS[: turns // 2 + 1]
    grpc = ids_of(ask_grpc(server.url, clips, messages=kserve(messages), parameters=parameters))
    asked = {"model": MODEL, "messages": messages, "return_token_ids": True, **parameters}
    whole = post(server, CHAT, asked)
    streamed = list(post(server, CHAT, {**asked, "stream": True}).events())
    assert whole.json["choices"][0]["token_ids"] == grpc
    assert (
        [token for event in streamed for token in event["choices"][0].get("token_ids", ())]
        == http_ids(server, messages, parameters)
        == grpc
    )
    spoken = post(server, CHAT, {**asked, **SPOKEN})
    assert spoken.json["choices"][0]["token_ids"] == grpc


def test_usage_counts_the_prompt_and_its_audio(server: Door) -> None:
    (result,) = Stream(server.url, CLIPS[:1], "What is it?", parameters={"max_tokens": 1}).results()
    prompt, audio = (int(result.as_numpy(f"{name}_tokens")[0]) for name in ("prompt", "audio"))
    assert audio == 25
    asked = {"model": MODEL, "messages": TURNS[:1], **GREEDY}
    found = valid_completion(post(server, CHAT, asked).json).usage
    assert (found.prompt_tokens, found.prompt_tokens_details.audio_tokens) == (prompt, audio)
    assert found.completion_tokens == 16
    options = {"stream": True, "stream_options": {"include_usage": True}}
    last = list(post(server, CHAT, {**asked, **options}).events())[-1]
    assert valid_chunk(last).usage.model_dump(exclude_unset=True) == found.model_dump(exclude_unset=True)
    silent = post(server, CHAT, {**asked, "messages": [{"role": "user", "content": "Go on."}]}).json
    assert silent["usage"]["prompt_tokens_details"]["audio_tokens"] == 0


def test_text_streams_as_it_stands(server: Door) -> None:
    asking = client(server)
    asked = {"model": MODEL, "messages": TURNS, "max_completion_tokens": 40, "temperature": 1.5, "seed": 2}
    whole = asking.chat.completions.create(**asked)
    chunks = list(asking.chat.completions.create(**asked, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == [
        "length"
    ]


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_any_format_that_the_server_reads(kind: str, server: Door) -> None:
    data = file_bytes(sound(1.0, seed=3), kind=kind)
    message = user("What is it?", data)
    message["content"][0]["input_audio"]["format"] = "wav"  # not trusted
    asked = {"model": MODEL, "messages": [message], "return_token_ids": True, **GREEDY}
    expected = ids_of(ask_grpc(server.url, [data], "What is it?", parameters=GREEDY))
    assert post(server, CHAT, asked).json["choices"][0]["token_ids"] == expected


AS_CHAT = [
    name
    for name, (asked, _) in REFUSED.items()
    if set(asked) <= {"audio", "prompt", "parameters"}
    and "prompt" in asked
    and name != "an unknown parameter"
]


@pytest.mark.parametrize("name", AS_CHAT)
def test_a_bad_request_is_refused_as_over_the_other_protocols(name: str, server: Door) -> None:
    asked, _ = REFUSED[name]
    options = {
        **asked.get("parameters", {}),
        "audio": ["data:;base64," + base64_of(file) for file in asked.get("audio", ())],
    }
    other = ask_either("http", server, asked["prompt"], **options)
    messages = [user(asked["prompt"], *asked.get("audio", ()))]
    reply = post(server, CHAT, {"model": MODEL, "messages": messages, **asked.get("parameters", {})})
    assert (reply.status, other.status) == (400, "INVALID_ARGUMENT")
    assert reply.error["message"] == other.sentence
    place = re.match(r"audio\[(\d)\]", other.sentence)
    if place:
        assert reply.error["param"] == f"messages[0].content[{place[1]}].input_audio.data"


@pytest.mark.parametrize(
    "url", ["https://example.com/a.wav", "file:///etc/passwd", "data:text/plain,hello", "clip.wav"]
)
def test_an_address_is_refused_with_what_to_send(url: str, server: Door) -> None:
    content = [{"type": "audio_url", "audio_url": {"url": url}}, {"type": "text", "text": "?"}]
    reply = post(server, CHAT, {"model": MODEL, "messages": [{"role": "user", "content": content}]})
    assert reply.status == 400
    assert reply.error["param"] == "messages[0].content[0].audio_url.url"
    assert "base64" in reply.error["message"]


def test_a_client_that_leaves_stops_the_llm(server: Door) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 1024}
    stream = client(server).chat.completions.create(**asked, temperature=1.5, seed=1, stream=True)
    next(iter(stream))
    assert scrape.read(server)["af3_llm_running"] == 1
    stream.close()
    scrape.wait_until(lambda: scrape.read(server)["af3_llm_running"] == 0)
    scrape.wait_until(lambda: server.admission.in_flight == 0)


def samples(data: bytes) -> tuple[int, int]:
    with wave.open(io.BytesIO(data)) as file:
        return file.getframerate(), len(file.readframes(1 << 24)) // 2


def test_a_spoken_answer_by_id_in_the_next_turn(server: Door) -> None:
    asking = client(server)
    first = [{"role": "user", "content": "Go on."}]
    sampled = {"max_tokens": 24, "temperature": 1.5, "seed": 1}
    found = asking.chat.completions.create(model=MODEL, messages=first, **SPOKEN, **sampled)
    audio = found.choices[0].message.audio
    hz, count = samples(base64.b64decode(audio.data))
    assert hz == 22050 and count > hz / 10
    more = {"role": "user", "content": "And then?"}
    by_id, by_text = (
        asking.chat.completions.create(model=MODEL, messages=[*first, before, more], **GREEDY)
        for before in (
            {"role": "assistant", "audio": {"id": audio.id}},
            {"role": "assistant", "content": audio.transcript},
        )
    )
    assert by_id.choices[0].message.content == by_text.choices[0].message.content
    assert by_id.usage.prompt_tokens == by_text.usage.prompt_tokens


@pytest.mark.parametrize("sound_format", ["wav", "pcm"])
def test_a_text_is_spoken_and_streamed(sound_format: str, server: Door) -> None:
    text = "This is a first sentence. And here comes a second one, somewhat longer than the first."
    with client(server).audio.speech.with_streaming_response.create(
        model="speech", voice="alloy", input=text, response_format=sound_format
    ) as reply:
        data = b"".join(reply.iter_bytes())
    hz, count = samples(data) if sound_format == "wav" else (24_000, len(data) // 2)
    assert 3 < count / hz < 8
    scrape.wait_until(lambda: scrape.read(server)["af3_speech_live"] == 0)


def test_speech_of_a_named_voice_at_another_speed_as_mp3(server: Door) -> None:
    asking = client(server)
    lengths = [
        len(
            asking.audio.speech.create(
                model="speech", voice="en-us", input="One two three.", speed=speed
            ).read()
        )
        for speed in (0.5, 2.0)
    ]
    assert lengths[0] > 2 * lengths[1]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("voice", "hal", "there is no 'hal'; choose one of"),
        ("speed", 9.0, "less than or equal to 2"),
        ("input", " ", "empty"),
        ("input", "a" * 5000, "5000 characters"),
    ],
)
def test_speech_is_refused_by_the_field(field: str, value: object, said: str, server: Door) -> None:
    asked = {"model": "speech", "voice": "alloy", "input": "hi", field: value}
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        client(server).audio.speech.create(**asked)
    assert refused.value.param == field


def test_a_listener_who_leaves_stops_the_voice(server: Door) -> None:
    asked = {"model": "speech", "voice": "alloy", "input": "word and " * 450, "response_format": "wav"}
    with client(server).audio.speech.with_streaming_response.create(**asked) as reply:
        next(reply.iter_bytes(1000))
    scrape.wait_until(lambda: scrape.read(server)["af3_speech_live"] == 0)
    scrape.wait_until(lambda: server.admission.in_flight == 0)


def test_a_transcription_is_the_answer_to_its_question(server: Door) -> None:
    question = "Transcribe the input speech."
    expected = ask_grpc(server.url, CLIPS[:1], question, parameters={"max_tokens": 16})
    found = client(server).audio.transcriptions.create(
        file=("a.wav", CLIPS[0]), model=MODEL, response_format="verbose_json", extra_body={"max_tokens": 16}
    )
    assert found.segments[0].tokens == ids_of(expected)
    assert found.duration == 1.0
    srt = client(server).audio.transcriptions.create(
        file=("a.wav", CLIPS[0]), model=MODEL, response_format="srt", extra_body={"max_tokens": 16}
    )
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,000\n")
    with pytest.raises(openai.BadRequestError, match=r"audio\[0\]: not a readable") as refused:
        client(server).audio.transcriptions.create(file=("a.wav", b"no sound " * 99), model=MODEL)
    assert refused.value.param == "file"


def test_a_transcription_of_20_mb(server: Door) -> None:
    data = file_bytes(sound(28, 48_000).reshape(-1, 1).repeat(8, axis=1), 48_000)
    assert len(data) > 20 << 20
    found = client(server).audio.transcriptions.create(
        file=("a.wav", data), model=MODEL, extra_body={"max_tokens": 4}
    )
    assert found.usage.input_token_details.audio_tokens == 700
