"""Parts of the OpenAI API that need no server: kept answers, subtitles, forms, rates of sound."""

import numpy as np
import pytest

from af3.errors import Full, RequestError
from serving.door.openai.form_body import parse_form
from serving.door.openai.openai_errors import error_code, error_object
from serving.door.openai.pcm_rate import PcmRate
from serving.door.openai.spoken_answers import SpokenAnswers
from serving.door.openai.subtitles import srt, vtt
from tests.support.openai_api import form
from tests.support.processor_time import in_loops


def test_kept_answers_expire() -> None:
    now = 1000.0
    kept = SpokenAnswers(kept_s=60, clock=lambda: now)
    first = kept.announce()
    assert kept.transcript(first.id) is None
    kept.keep(first, "Hello.")
    assert (kept.transcript(first.id), first.expires_at) == ("Hello.", 1060)
    now = 1060.0
    assert kept.transcript(first.id) is None


def test_kept_answers_are_bounded_in_number_and_in_text() -> None:
    kept = SpokenAnswers(most_answers=2, most_characters=10)
    ids = [kept.announce() for _ in range(4)]
    for spoken, text in zip(ids, ("a", "b", "c", "d" * 10), strict=True):
        kept.keep(spoken, text)
    assert [kept.transcript(spoken.id) for spoken in ids] == [None, None, None, "d" * 10]
    kept.keep(kept.announce(), "e" * 11)
    assert kept.transcript(ids[3].id) is None


def test_subtitles_hold_one_block() -> None:
    assert srt(" a\n\nb ", 3725.0404) == "1\n00:00:00,000 --> 01:02:05,040\na\nb\n\n"
    assert vtt("1 < 2 --> & 3", 0.5) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\n1 &lt; 2 --&gt; &amp; 3\n\n"
    )


@pytest.mark.parametrize(
    "file", [np.random.default_rng(1).bytes(20 << 20), b"\r\n--" * (5 << 20)], ids=["noise", "dashes"]
)
def test_a_form_of_20_mb_is_parsed_in_milliseconds(file: bytes) -> None:
    """One of the files is full of line ends and dashes, with which a boundary may begin."""
    body, header = form({"model": "m"}, file)
    found = parse_form(header["content-type"], bytearray(body))
    assert found.file == file
    assert found.values == {"model": ["m"]}
    again = bytearray(body)
    assert in_loops(lambda: parse_form(header["content-type"], again)) < 30


@pytest.mark.parametrize("hz", [8_000, 16_000, 22_050, 24_000, 48_000])
def test_speech_becomes_24_khz_block_by_block(hz: int) -> None:
    tone = (20_000 * np.sin(2 * np.pi * 440 * np.arange(hz) / hz)).astype("<i2")
    rate = PcmRate()
    made = b"".join(rate.push(part.tobytes(), hz) for part in np.array_split(tone, 11)) + rate.finish()
    found = np.frombuffer(made, "<i2")
    assert len(found) == 24_000
    expected = 20_000 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    assert np.abs(found - expected)[500:-500].max() < 30


def test_errors_have_openais_codes() -> None:
    assert error_code(Full("full", 3)) == error_code(RequestError("RESOURCE_EXHAUSTED", "quota", 3)) == 429
    assert error_code(RequestError("RESOURCE_EXHAUSTED", "too large")) == 413
    assert error_code(RequestError("UNAVAILABLE", "starting", 3)) == 503
    assert error_code(RequestError("DEADLINE_EXCEEDED", "late")) == 408
    assert error_object(Full("full", 3))["code"] == "rate_limit_exceeded"
    assert (
        error_object(RequestError("INVALID_ARGUMENT", "messages[2].role: no"))["param"] == "messages[2].role"
    )
    assert error_object(RequestError("INVALID_ARGUMENT", "parameter 'seed': no"))["param"] == "seed"
    assert error_object(RequestError("INVALID_ARGUMENT", "No: field"))["param"] is None
