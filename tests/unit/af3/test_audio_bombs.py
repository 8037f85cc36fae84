"""Small files that decode to hours, and files that lie about their size: refused within bounded memory."""

import io
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3.errors import RequestError
from af3.inputs import mp3_frames
from af3.inputs.decoding import decode

HOURS = 3
RATE = 16_000
MEMORY_MB = (
    250  # two minutes of one decoded block of a float64 file, and numpy's own; hours would be gigabytes
)

PROGRAM = """
import resource, sys
from af3.inputs.decoding import decode
from af3.errors import RequestError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(open(sys.argv[1], "rb").read(), "audio[0]")
except RequestError as error:
    print(error.message)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def silence(kind: str, subtype: str, seconds: float, channels: int = 1) -> bytes:
    """A file of silence, written block by block."""
    file = io.BytesIO()
    block = np.zeros((RATE * 60, channels), np.int16)
    with soundfile.SoundFile(file, "w", RATE, channels, subtype, format=kind) as opened:
        for _ in range(int(seconds // 60)):
            opened.write(block)
    return file.getvalue()


def without_length(flac: bytes) -> bytes:
    """The same FLAC whose STREAMINFO says that the number of samples is unknown (36 bits from bit 108 on)."""
    changed = bytearray(flac)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    flac = silence("FLAC", "PCM_16", HOURS * 3600)
    return {
        "FLAC": flac,
        "FLAC of unknown length": without_length(flac),
        "FLAC of 8 channels": silence("FLAC", "PCM_16", 720, channels=8),
        "MP3": silence("MP3", "MPEG_LAYER_III", 720),
        "OGG": silence("OGG", "VORBIS", 720),
    }


@pytest.mark.parametrize("name", ["FLAC", "FLAC of unknown length", "FLAC of 8 channels", "MP3", "OGG"])
def test_a_bomb_is_refused_before_it_has_been_decoded(
    name: str, bombs: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bombs[name])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    message, grown_mb = done.stdout.splitlines()
    assert "s is longer than the 600 s" in message
    assert int(grown_mb) < MEMORY_MB


def test_an_mp3_whose_estimated_length_is_above_the_limit_is_read() -> None:
    """Quiet first, then loud, without a Xing tag: libsndfile takes 12 s for more than 60 (libsndfile#1001)."""

    def frames(samples: np.ndarray, compression: float) -> bytes:
        file = io.BytesIO()
        soundfile.write(
            file, samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=compression
        )
        data = file.getvalue()
        tag = mp3_frames.frame_at(data, 0)
        assert tag is not None
        return data[tag.length :]

    noise = np.random.default_rng(0).uniform(-1, 1, 10 * RATE)
    data = frames(np.zeros(2 * RATE), 0.99) + frames(noise, 0.0)
    assert soundfile.info(io.BytesIO(data)).duration > 60
    assert len(decode(data, "audio[0]", max_seconds=30)) == pytest.approx(12 * RATE, abs=0.3 * RATE)


@pytest.mark.parametrize("rate", [4_000, 11_025, 96_000, 192_000, 384_000])
def test_rates_from_4_to_384_khz_become_16_khz(rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(rate), rate, format="WAV")
    assert len(decode(file.getvalue(), "audio[0]")) == RATE


def test_64_channels_are_mixed_and_65_are_not() -> None:
    def wav(channels: int) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, np.ones((1_600, channels)) / 2, RATE, format="WAV")
        return file.getvalue()

    assert np.allclose(decode(wav(64), "audio[0]"), 0.5, atol=1e-3)
    with pytest.raises(RequestError, match="65 channels, at most 64"):
        decode(wav(65), "audio[0]")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_single_sample_that_is_no_number_is_refused(value: float) -> None:
    samples = np.zeros(RATE, np.float32)
    samples[777] = value
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    with pytest.raises(RequestError, match="sample 777 is not a finite number"):
        decode(file.getvalue(), "audio[0]")


def test_a_header_larger_than_the_sound_is_skipped_in_bounded_memory() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(RATE), RATE, format="WAV")
    data = file.getvalue()
    size = 5_000_000
    assert (
        len(decode(data[:12] + b"LIST" + size.to_bytes(4, "little") + bytes(size) + data[12:], "audio[0]"))
        == RATE
    )


def test_a_wav_of_a_codec_that_nobody_knows_is_refused_at_little_cost() -> None:
    """Packets of one byte, of no channel; the processor's seconds, not the clock's."""
    form = struct.pack("<HHIIHH", 0xFFFF, 0, 2**31 - 1, 1, 1, 0xFFFF)
    sound = bytes(8 << 20)
    wav = b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVEfmt \x10\0\0\0" + form
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(RequestError, match="coded in a way that is not read"):
        decode(wav + b"data" + struct.pack("<I", len(sound)) + sound, "audio[0]")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4
