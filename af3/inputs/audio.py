"""Audio files → mono 16 kHz samples → 30 s windows, exactly as Transformers' AF3 processor makes them."""

from __future__ import annotations

import base64
import binascii
import io
import math

import numpy as np
import soundfile
import soxr

from af3.contract import MAX_CLIP_SECONDS
from af3.errors import invalid
from af3.inputs import riff_ogg

SAMPLE_RATE = 16_000
HOP = 160  # samples of one mel frame (10 ms)
WINDOW_SAMPLES = 30 * SAMPLE_RATE
WINDOW_FRAMES = WINDOW_SAMPLES // HOP
MAX_CHANNELS = 64
SOURCE_RATES_HZ = (4_000, 384_000)
READ_FRAMES = 1 << 18  # decode in blocks: a bomb is noticed after one block, not after gigabytes
FORMATS = {"WAV", "WAVEX", "FLAC", "MP3", "OGG"}
DATA_URI = b"data:"


def file_bytes(element: bytes, name: str) -> bytes:
    """The file in one element of `audio`: the bytes themselves, or what a base64 `data:` URI holds.

    Raises RequestError for a URI that is not base64.
    """
    if not element.startswith(DATA_URI):
        return element
    header, _, payload = element.partition(b",")
    if not header.endswith(b";base64"):
        raise invalid(
            f"{name}: the data: URI is not base64; send data:audio/wav;base64,… or the file's bytes"
        )
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error:
        raise invalid(f"{name}: the base64 text of the data: URI is broken; encode the whole file") from None


def decode(data: bytes, name: str, max_seconds: float = MAX_CLIP_SECONDS) -> np.ndarray:
    """A whole WAV, FLAC, MP3 or OGG file → float32 mono samples at 16 kHz, [n].

    Channels are averaged, then resampled with soxr's HQ filter: the steps, the order and the precision of
    Transformers' `load_audio` (soundfile backend), so the samples are equal to its. `name` stands in errors
    (`audio[0]`). Raises RequestError for a file that is empty, unknown, cut short, too long, or holds
    samples that are no numbers.
    """
    if not data:
        raise invalid(f"{name}: the file is empty; send a whole WAV, FLAC, MP3 or OGG file")
    riff_ogg.refuse_truncated(data, name)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _refuse_unservable(file, name, max_seconds)
            mono = _read_mono(file, name, max_seconds)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        raise invalid(
            f"{name}: not a readable WAV, FLAC, MP3 or OGG file ({_reason(error)}); convert it to one of these"
        ) from None
    if not np.isfinite(mono).all():
        bad = int(np.argmin(np.isfinite(mono)))
        raise invalid(
            f"{name}: sample {bad} is not a finite number; export the file again without NaN or inf"
        )
    pcm = _resample(mono, rate)
    if clip_token_count(pcm) == 0:
        raise invalid(
            f"{name}: {len(pcm) / SAMPLE_RATE * 1000:.0f} ms is too short to hear (more than 20 ms is needed);"
            " send a longer clip or leave it out"
        )
    return pcm


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.rstrip(". ")


def _refuse_unservable(file: soundfile.SoundFile, name: str, max_seconds: float) -> None:
    low, high = SOURCE_RATES_HZ
    if file.format not in FORMATS:
        raise invalid(f"{name}: {file.format} files are not read; convert it to WAV, FLAC, MP3 or OGG")
    if not low <= file.samplerate <= high:
        raise invalid(
            f"{name}: a sample rate of {file.samplerate} Hz is outside {low}–{high} Hz; resample it"
        )
    if file.channels > MAX_CHANNELS:
        raise invalid(
            f"{name}: {file.channels} channels, at most {MAX_CHANNELS} are mixed; mix it down first"
        )
    if file.seekable() and 0 < file.frames < (1 << 62):
        _refuse_too_long(file.frames / file.samplerate, name, max_seconds)


def _refuse_too_long(seconds: float, name: str, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise invalid(
            f"{name}: {seconds:.1f} s is longer than the {max_seconds:g} s that this model hears; split it"
            " or send fewer clips"
        )


def _read_mono(file: soundfile.SoundFile, name: str, max_seconds: float) -> np.ndarray:
    """All frames, channels averaged block by block, so that memory is bounded by one mono clip."""
    blocks: list[np.ndarray] = []
    frames = 0
    while len(block := file.read(READ_FRAMES // file.channels + 1, dtype="float32", always_2d=True)):
        frames += len(block)
        _refuse_too_long(frames / file.samplerate, name, max_seconds)
        # mean over the first axis of [channels, n], as Transformers does: the same sum order, the same bits.
        blocks.append(block.T.mean(axis=0) if file.channels > 1 else block[:, 0].copy())
    if frames == 0:
        raise invalid(f"{name}: the file holds no samples; send a clip longer than 20 ms")
    if file.format in {"FLAC", "MP3"} and frames < file.frames < (1 << 62):
        raise invalid(
            f"{name}: the file is cut short ({frames} of {file.frames} frames could be read); send the whole file"
        )
    return np.concatenate(blocks)


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    if rate == SAMPLE_RATE:
        return mono
    samples = math.ceil(len(mono) * SAMPLE_RATE / rate)
    pcm = soxr.resample(mono, rate, SAMPLE_RATE, quality="soxr_hq")
    return np.pad(pcm, (0, max(0, samples - len(pcm))))[:samples]


def split_windows(pcm: np.ndarray) -> list[np.ndarray]:
    """[n] → the clip's 30 s windows, views of [≤ 480 000]; only the last is shorter."""
    return [pcm[start : start + WINDOW_SAMPLES] for start in range(0, len(pcm), WINDOW_SAMPLES)]


def mel_frames(samples: int) -> int:
    """Valid mel frames of one window of `samples`: ceil(samples / 160), the mask of WhisperFeatureExtractor."""
    return -(-samples // HOP)


def encoder_frames(samples: int) -> int:
    """Encoder frames that may be attended to: the stride-2 convolution over the valid mel frames."""
    return -(-mel_frames(samples) // 2)


def audio_token_count(samples: int) -> int:
    """Audio tokens of one window of `samples` at 16 kHz (AF3: 25 per second, whole frames only).

    frames = ceil(samples / 160); conv stride 2, pool stride 2 → floor(ceil(frames / 2) / 2).
    Same as `AudioFlamingo3Processor._get_audio_token_length` (Transformers).
    """
    return encoder_frames(samples) // 2


def clip_token_count(pcm: np.ndarray) -> int:
    """Audio tokens of a whole clip, [n]: the sum over its windows."""
    return sum(audio_token_count(len(window)) for window in split_windows(pcm))


def fed_frames(samples: int) -> int:
    """Mel frames the encoder must be fed for one window, so that all its tokens are exact.

    Encoder frame E-1 sees mel frames up to 2E; one more keeps the log-mel maximum and makes the count even.
    Whatever comes after is masked, so 30 s of padding is not needed.
    """
    return min(2 * encoder_frames(samples) + 2, WINDOW_FRAMES)
