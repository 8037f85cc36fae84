"""The one kind of file that is read inside the server: the same bits as by libsndfile, and nothing but that kind."""

import struct
from random import Random

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs import plain_wav
from af3.inputs.clip_decoder import ClipDecoder
from af3.inputs.decoding import decode
from tests.fuzz.audio_files import MUTATIONS
from tests.support.clips import clip, file_bytes, sound
from tests.support.odd_files import WAV_HEADER_BYTES, odd_files, written

ODD_RATES = ("wav_12345_hz.wav", "wav_192000_hz.wav")


def read(data: bytes) -> np.ndarray | None:
    return plain_wav.read(data, "audio[0]", 600)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_the_samples_have_the_same_bits_as_by_libsndfile(rate: int, channels: int) -> None:
    data = file_bytes(sound(3.3, rate, channels, seed=rate), rate)
    found = read(data)
    assert found is not None
    assert found.tobytes() == decode(data, "audio[0]").tobytes()


def test_what_ffmpeg_writes_before_the_samples_is_stepped_over() -> None:
    data = written("ff.wav")
    assert data[36:40] == b"LIST"
    found = read(data)
    assert found is not None and found.tobytes() == decode(data, "audio[0]").tobytes()


def test_every_extreme_sample_is_the_same() -> None:
    values = np.arange(-(1 << 15), 1 << 15, dtype="<i2")
    data = clip(0.1)[:40] + struct.pack("<I", values.nbytes) + values.tobytes()
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    found = read(data)
    assert found is not None and found.tobytes() == decode(data, "audio[0]").tobytes()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610"])
def test_other_codings_are_left_to_the_decoder(subtype: str) -> None:
    assert read(file_bytes(sound(0.5, 8_000), 8_000, "WAV", subtype)) is None


@pytest.mark.parametrize("name", ODD_RATES)
def test_an_odd_rate_is_read_the_same(name: str) -> None:
    data = odd_files()[name]
    found = read(data)
    assert found is not None and found.tobytes() == decode(data, "audio[0]").tobytes()


def test_other_layouts_are_left_to_the_decoder() -> None:
    whole = clip(0.5)
    plain = ("wav_list", *ODD_RATES)
    others = {name: data for name, data in odd_files().items() if not name.startswith(plain)}
    others |= {
        "three channels": file_bytes(sound(0.5, channels=3)),
        "extensible": file_bytes(sound(0.5), kind="WAVEX"),
        "cut": whole[:-2],
        "a byte more": whole + b"\0",
        "header alone": whole[:WAV_HEADER_BYTES],
        "RIFX": b"RIFX" + whole[4:],
        "nothing": b"",
    }
    assert {name for name, data in others.items() if read(data) is not None} == set()


def test_a_broken_header_is_read_as_the_decoder_reads_it_or_not_at_all() -> None:
    random = Random(7)
    whole = [clip(0.1), file_bytes(sound(0.1, 44_100, 2), 44_100), written("ff.wav")[:3_000]]
    taken = 0
    for number in range(3_000):
        data = random.choice(whole)
        for _ in range(random.choice((1, 1, 2))):
            data = random.choice(MUTATIONS)(data, random)
        try:
            found = read(data)
        except RequestError:
            with pytest.raises(RequestError):
                decode(data, "audio[0]")
            continue
        if found is not None:
            taken += 1
            np.testing.assert_array_equal(found, decode(data, "audio[0]"), err_msg=f"case {number}")
    assert taken > 100


def test_a_plain_wav_starts_no_process_and_is_refused_in_the_same_words() -> None:
    decoder = ClipDecoder()
    assert len(decoder.decode(clip(0.5), "audio[0]").pcm) == 8_000
    for data, cause in (
        (file_bytes(np.zeros(320)), "20 ms is too short"),
        (file_bytes(sound(1, 2_000), 2_000), "2000 Hz is outside"),
    ):
        with pytest.raises(RequestError, match=cause):
            decoder.decode(data, "audio[0]")
    with pytest.raises(RequestError, match=r"3\.0 s is longer than the 2 s"):
        decoder.decode(clip(3), "audio[0]", max_seconds=2)
    assert decoder._worker is None
