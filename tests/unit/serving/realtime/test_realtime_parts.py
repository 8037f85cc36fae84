"""Sound formats, pauses, and what of an answer was heard."""

import io

import numpy as np
import pytest
import soundfile

from serving.door.realtime.audio_formats import AudioFormat
from serving.door.realtime.heard_text import HeardText
from serving.door.realtime.realtime_events import EventError
from serving.door.realtime.session_settings import Session
from serving.door.realtime.user_transcription import transcript_of

SUBTYPES = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
EVERY_SAMPLE = np.arange(-32768, 32768).astype("<i2")


@pytest.mark.parametrize("kind", SUBTYPES)
def test_g711_is_read_as_libsndfile_reads_it_and_written_as_near_as_it_writes_it(kind: str) -> None:
    wire, codes = AudioFormat(kind, 8000), bytes(range(256))
    raw = {"samplerate": 8000, "subtype": SUBTYPES[kind], "format": "RAW"}
    expected, _ = soundfile.read(io.BytesIO(codes), channels=1, dtype="int16", **raw)
    assert np.array_equal(np.frombuffer(wire.to_pcm(codes), "<i2"), expected)
    file = io.BytesIO()
    soundfile.write(file, EVERY_SAMPLE, **raw)
    ours, theirs = (
        np.abs(np.frombuffer(wire.to_pcm(data), "<i2").astype(int) - EVERY_SAMPLE)
        for data in (wire.from_pcm(EVERY_SAMPLE.tobytes()), file.getvalue())
    )
    assert (ours <= theirs).all()


def test_only_whole_words_that_were_played_were_heard() -> None:
    heard = HeardText(1.0)
    heard.begins("One two three. ")
    heard.add(1.0)
    heard.begins("Four five six.")
    heard.add(1.0)
    heard.complete = True
    assert [heard.until(end_s) for end_s in (0, 0.5, 1.0, 1.5, 9.0)] == [
        "",
        "One two",
        "One two three.",
        "One two three. Four",
        "One two three. Four five six.",
    ]


def test_speech_that_has_not_all_come_is_not_taken_for_the_whole_sentence() -> None:
    heard = HeardText(0.5)
    heard.begins("Two plus three is five.")
    heard.add(1.0)
    assert heard.until(1.0) == "Two"


def test_updates_are_merged_key_by_key_and_a_wrong_one_changes_nothing() -> None:
    session = Session("sess_1", 0)
    session.update({"audio": {"input": {"turn_detection": {"threshold": 0.7}}}})
    session.update({"audio": {"output": {"voice": "en-gb"}}, "max_output_tokens": 5000})
    detection = session.settings.audio.input.turn_detection
    assert detection is not None
    assert (detection.threshold, detection.silence_ms) == (0.7, 500)
    assert session.settings.parameters(1024) == {"max_tokens": 1024, "voice": "en-gb"}
    before = session.shown
    for wrong in (
        {"audio": {"input": {"turn_detection": {"threshold": 2}}}, "instructions": "new"},
        {"audio": {"input": {"format": {"type": "audio/mp3"}}}},
        {"audio": {"output": {"speed": float("nan")}}},
        {"output_modalities": []},
    ):
        with pytest.raises(EventError):
            session.update(wrong)
        assert session.shown is before
    session.update({"audio": {"input": {"turn_detection": None}}})
    assert session.settings.audio.input.turn_detection is None
    session.update({"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}})
    assert session.settings.audio.input.turn_detection.silence_ms == 1200  # type: ignore[union-attr]
    assert "threshold" not in session.shown["audio"]["input"]["turn_detection"]


def test_a_transcript_is_the_words_alone() -> None:
    assert transcript_of('The spoken content of the audio is "turn it up".') == "turn it up"
    assert transcript_of("The spoken content of the audio is 'It's late.'") == "It's late."
    assert transcript_of("Hello there. ") == "Hello there."
