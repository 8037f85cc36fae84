"""JSON bodies: what is read, what is refused, and how long the interpreter is held."""

import json

import pytest

from af3.contract import MAX_CLIPS, MAX_TEXT_BYTES
from af3.errors import RequestError
from serving.door.generate_request import to_json, to_request
from serving.door.json_body import LONG_STRING, MAX_MARKS, MAX_PARSED, LongString, StructureCount, parse
from tests.support.processor_time import in_loops

MODEL = "audio_flamingo"


def request_of(body: object):
    return to_request(MODEL, parse(json.dumps(body).encode()))


def inputs(request) -> dict[str, bytes]:
    request = request.whole()
    return dict(zip((tensor.name for tensor in request.inputs), request.raw_input_contents, strict=True))


def element(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(4, "little") + raw


@pytest.mark.parametrize(
    "escape", [lambda text: text, lambda text: text.replace("/", "\\/")], ids=["plain", "PHP"]
)
def test_a_long_clip_comes_through_byte_for_byte(escape) -> None:
    uri = "data:audio/wav;base64," + "ab+/" * LONG_STRING
    body = f'{{"prompt": "a \\"quoted\\" \\\\", "audio": ["{escape(uri)}", "short"]}}'.encode()
    request, _ = to_request(MODEL, parse(body))
    assert inputs(request)["audio"] == element(uri) + element("short")
    assert inputs(request)["prompt"] == element('a "quoted" \\')


@pytest.mark.parametrize("size", [1000, LONG_STRING - 1, LONG_STRING + 1, 100_000])
def test_as_many_clips_come_through_as_a_request_may_have_beside_the_longest_text(size: int) -> None:
    clip, text = "a" * size, "é" * (MAX_TEXT_BYTES // 2)
    request, _ = request_of({"prompt": text, "audio": [clip] * MAX_CLIPS})
    assert inputs(request)["audio"] == element(clip) * MAX_CLIPS
    assert inputs(request)["prompt"] == element(text)


def test_a_long_text_keeps_its_escapes() -> None:
    text = 'é\n"\\ \U0001f600' * LONG_STRING
    request, _ = request_of({"prompt": text})
    assert inputs(request)["prompt"] == element(text)
    request, _ = request_of({"messages": [{"role": "user", "content": text}]})
    assert json.loads(inputs(request)["messages"][4:]) == [{"role": "user", "content": text}]


def test_parameters_have_the_type_of_their_value_and_null_is_none() -> None:
    request, client_id = request_of(
        {
            "prompt": "?",
            "id": None,
            "max_tokens": 5,
            "temperature": 0.5,
            "think": True,
            "seed": None,
            "stop": ["a", "b"],
        }
    )
    found = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in request.head.parameters.items()
    }
    assert found == {"max_tokens": 5, "temperature": 0.5, "think": True, "stop": '["a", "b"]'}
    assert client_id == ""


def test_messages_may_be_json_or_a_string_that_holds_it() -> None:
    turns = [{"role": "user", "content": "hi"}]
    assert inputs(request_of({"messages": turns})[0]) == inputs(
        request_of({"messages": json.dumps(turns)})[0]
    )


def test_nested_parameters_are_parameters() -> None:
    request, _ = request_of({"prompt": "?", "parameters": {"max_tokens": 5}})
    assert request.head.parameters["max_tokens"].int64_param == 5


@pytest.mark.parametrize("client_id", ["x", "", "a\0b", "\ud800", "ü" * 100, "x] HACKED: "])
def test_any_string_is_an_id_and_comes_back_as_it_was(client_id: str) -> None:
    _, found = request_of({"id": client_id, "prompt": "?"})
    assert found == client_id
    assert json.loads(to_json(_empty_response(), found)).get("id", "") == client_id


def _empty_response():
    from tritonclient.grpc import service_pb2

    return service_pb2.ModelInferResponse(model_name=MODEL)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{\x00}\x00", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"x":' * 40_000, "not valid JSON"),
        (b'{"x": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"x": 1e400}', "too large"),
        (b'{"x": NaN}', "NaN is not JSON"),
        (b'{"id": "a", "id": "b"}', "the key 'id' stands twice"),
        (b'{"id": 7}', "id: 7 is not a string"),
        (b'{"id": {"a": 1}}', "id: a JSON object is not a string"),
        (b'{"prompt": 7}', "prompt: 7 is not a string"),
        (b'{"audio": ["a", 7]}', r"audio\[1\]: 7 is not a string"),
        (b'{"prompt": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b'{"messages": ["\\ud800"]}', "half of a surrogate pair"),
        (b'{"x": {"a": 1}}', "'x': a JSON object is not a string, a number"),
        (b'{"x": [1]}', "'x': a list is not a string"),
        (b'{"x": 99999999999999999999}', "is not a 64-bit number"),
        (b'{"x": 1, "parameters": {"x": 2}}', "'x' stands in the body and in its parameters"),
        (b'{"parameters": [1]}', "parameters: a list is not a JSON object"),
    ],
)
def test_what_cannot_be_read_is_refused_by_cause(body: bytes, cause: str) -> None:
    with pytest.raises(RequestError, match=cause) as refused:
        to_request(MODEL, parse(body))
    assert refused.value.status == "INVALID_ARGUMENT"
    assert len(refused.value.message) < 400


@pytest.mark.parametrize("part", [b"[],", b'"a":1,', b'"",', b"{{{{"])
def test_a_body_of_many_small_parts_is_refused_while_it_arrives(part: bytes) -> None:
    count = StructureCount()
    block = part * (65536 // len(part))
    with pytest.raises(RequestError, match=f"more than {MAX_MARKS}"):
        for _ in range(250):  # 16 MB
            count.feed(block, len(block))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 10_000])
def test_what_lies_in_a_string_is_no_structure_however_it_is_cut(size: int) -> None:
    """Quotes and backslashes in strings, cut at every place; the marks outside are counted, those inside are not."""
    body = json.dumps({"a,b": ['"', "\\", '\\"', '\\\\"x', "," * 3000, "end\\"], "c": 1}).encode()
    count = StructureCount()
    for start in range(0, len(body), size):
        block = body[start : start + size]
        count.feed(block, len(block))
    assert not count._in_string
    assert not count._half_escape
    assert (count._marks < 200) == (size < 1000)


@pytest.mark.parametrize("start", [b'{"a": "', b'{"a": "\\"', b'{"a": "\\\\\\"'])
def test_a_clip_costs_two_looks_at_each_block(start: bytes) -> None:
    """Of the blocks in its middle, whatever text stood before it; what follows the string is counted again."""

    class Block(bytearray):
        looks = 0

        def find(self, *arguments):  # type: ignore[override]
            Block.looks += 1
            return super().find(*arguments)

        def count(self, *arguments):  # type: ignore[override]
            Block.looks += 1
            return super().count(*arguments)

    count = StructureCount()
    count.feed(start, len(start))
    middle = Block(b"ab+/" * 1000)
    for _ in range(10):
        count.feed(middle, len(middle))
    assert Block.looks == 20
    count.feed(b'"', 1)
    with pytest.raises(RequestError, match=f"more than {MAX_MARKS}"):
        count.feed(b"," * (MAX_MARKS + 1), MAX_MARKS + 1)


WORST = {
    "a 40 MB clip": b'{"audio":"' + b"ab+/" * (10 << 20) + b'"}',
    "a 40 MB clip from PHP": b'{"audio":"' + (b"abcdefgh" * 7 + b"abcdef\\/") * (40 << 14) + b'"}',
    "as many lists as are let through": b'{"x":[' + b"[]," * (MAX_MARKS // 2 - 10) + b"1]}",
    "a string of quotes": b'{"x":"' + b'\\"' * (MAX_MARKS - 10) + b'"}',
    "a 40 MB clip in lines": b'{"audio":"' + (b"abcd" * 19 + b"\\n") * ((40 << 20) // 78) + b'"}',
    "as much text as is let through": b'{"x":' + b" " * (MAX_PARSED - 100) + b"1}",
}


@pytest.mark.parametrize("name", WORST)
def test_no_body_that_is_let_through_takes_long_to_parse(name: str) -> None:
    """All of it together is less than the event loop may be held up; `json.loads` of 16 MB of lists took 1.4 s."""
    count = StructureCount()
    count.feed(WORST[name], len(WORST[name]))

    def read() -> None:
        found = parse(WORST[name])
        if isinstance(found.get("audio"), LongString):
            to_request(MODEL, found)

    assert in_loops(read) < 40  # at most 13 on an idle machine


SPACES = b" " * (40 << 20)
LINES = [b'"' + b"a" * (15 << 10) + b'"'] * 2700
TOO_MUCH = {
    "spaces": SPACES,
    "spaces in an object": b'{"a":' + SPACES + b"1}",
    "line ends": b"\n" * (40 << 20) + b"{}",
    "a string without an end": b'{"a":"' + SPACES,
    "one number": b'{"a":' + b"1" * (40 << 20) + b"}",
    "one word": b'{"a":' + b"x" * (40 << 20) + b"}",
    "strings": b'{"x":[' + b",".join(LINES) + b"]}",
    "a long text": b'{"messages":[{"role":"user","content":"' + SPACES + b'"}]}',
    "long texts": b'{"messages":["' + b'","'.join([b" " * (1 << 20)] * 40) + b'"]}',
    "a parameter": b'{"prompt":"?","stop":"' + SPACES + b'"}',
    "a clip of escapes": b'{"prompt":"?","audio":"' + b"\\u0041" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_no_clip_is_refused_unparsed_where_it_is_too_much(name: str) -> None:
    """It held the interpreter, and so every stream, for up to 2.6 s."""

    def refuse() -> None:
        with pytest.raises(RequestError, match=f"more than {MAX_PARSED} bytes of text, numbers and spaces"):
            to_request(MODEL, parse(TOO_MUCH[name]))

    assert in_loops(refuse) < 20  # at most 7 on an idle machine


@pytest.mark.parametrize("escape", ["\n", "\r\n", "\\", '"', "é", "\U0001f600", "\u2028", "/"])
def test_a_string_of_many_pieces_comes_through_byte_for_byte(escape: str) -> None:
    """Escapes at every distance from where it is divided."""
    for ascii_alone in (True, False):
        text = "".join("x" * (20 + place % 41) + escape * (1 + place % 3) for place in range(100_000))
        body = json.dumps({"prompt": "?", "audio": text}, ensure_ascii=ascii_alone).encode()
        request, _ = to_request(MODEL, parse(body))
        assert inputs(request)["audio"] == element(text)


def test_more_clips_than_the_model_takes_are_refused_at_the_door() -> None:
    request_of({"prompt": "?", "audio": ["x"] * 256})
    with pytest.raises(RequestError, match="audio: 257 clips, at most 256 are heard in one request"):
        request_of({"prompt": "?", "audio": ["x"] * 257})
