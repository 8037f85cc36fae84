"""Elements of `audio` as people send them."""

import base64

import pytest

from af3.errors import RequestError
from af3.inputs.base64_text import file_bytes
from tests.support.clips import clip
from tests.support.odd_files import written

FILE = clip(0.3) + b"?"  # a length that needs padding
TEXT = base64.b64encode(FILE)
SAFE = base64.urlsafe_b64encode(FILE)

READ = {
    "the bytes": FILE,
    "a data: URI": b"data:audio/wav;base64," + TEXT,
    "without a media type": b"data:;base64," + TEXT,
    "in capitals": b"DATA:AUDIO/WAV;BASE64," + TEXT,
    "with parameters": b'data:audio/webm;codecs="opus";base64,' + TEXT,
    "with a space before base64": b"data:audio/wav; base64," + TEXT,
    "bare": TEXT,
    "bare and wrapped": base64.encodebytes(FILE),
    "bare, wrapped by Windows": base64.encodebytes(FILE).replace(b"\n", b"\r\n"),
    "bare, without padding": TEXT.rstrip(b"="),
    "bare, URL-safe": SAFE,
    "wrapped": b"data:audio/wav;base64," + base64.encodebytes(FILE),
    "with whitespace around": b" \n data:audio/wav;base64, " + TEXT + b" \n",
    "without padding": b"data:audio/wav;base64," + TEXT.rstrip(b"="),
    "URL-safe": b"data:audio/wav;base64," + SAFE.rstrip(b"="),
    "percent-encoded": b"data:audio/wav;base64,"
    + TEXT.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D"),
}
REFUSED = {
    "an address": (
        b"https://example.org/clip.wav",
        "an address, not a file.*download it and send the file's bytes",
    ),
    "another scheme": (b"s3://bucket/clip.wav", "an address"),
    "a path": (b"/home/me/clip.wav", "the name of a file.*send the file's bytes"),
    "a relative path": (b"clips/my clip.mp3", "the name of a file"),
    "a Windows path": (rb"C:\clips\clip.m4a", "the name of a file"),
    "a data: URI that is not base64": (
        b"data:audio/wav,abc",
        "not base64; send the file's bytes or data:audio/wav",
    ),
    "broken base64": (b"data:audio/wav;base64,@@@", "base64 text is broken"),
    "one letter too many": (
        b"data:audio/wav;base64," + TEXT.rstrip(b"=")[: len(TEXT) // 4 * 4 - 3],
        "is broken",
    ),
    "an OpenAI part": (
        b'{"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}',
        "JSON, not",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_every_spelling_is_read(name: str) -> None:
    assert file_bytes(READ[name], "audio[0]") == FILE


@pytest.mark.parametrize("name", ["ff.m4a", "ff_opus.webm", "lame_abr_notag.mp3", "sox.amr", "opusenc.opus"])
def test_bare_text_of_every_kind_of_file_is_read(name: str) -> None:
    assert file_bytes(base64.b64encode(written(name)), "audio[0]") == written(name)
    assert file_bytes(written(name), "audio[0]") == written(name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_gets_a_sentence_that_says_what_to_send(name: str) -> None:
    element, sentence = REFUSED[name]
    with pytest.raises(RequestError, match=rf"^audio\[2\]: .*{sentence}"):
        file_bytes(element, "audio[2]")


@pytest.mark.parametrize("words", [b"not a sound " * 99, b"A" * 4_000, b"words" * 100])
def test_words_that_are_base64_too_are_left_as_they_are(words: bytes) -> None:
    assert file_bytes(words, "audio[0]") == words
