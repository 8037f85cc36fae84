"""Recordings of people are read out of the archives of their packages, and asked about in the right words."""

import io
import struct
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3.inputs import ffmpeg
from training import people, unknown
from training.evaluation_set import TASKS
from training.scenes import DIGITS
from training.signals import Pcm

TONE = np.sin(np.arange(4000) / 4).astype(np.float32)


def packed(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:xz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


def debian(files: dict[str, bytes]) -> bytes:
    """A .deb: an ar with a member of an odd length before the files."""
    package = b"!<arch>\n"
    for name, data in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", packed(files)),
    ):
        package += f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}".encode() + b"`\n" + data
        package += b"\n" * (len(data) % 2)
    return package


def wav(pcm: Pcm) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, pcm, 8000, format="WAV")
    return held.getvalue()


def test_a_recording_is_read_from_a_debian_package_at_16_khz(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "sounds.deb"
    path.write_bytes(debian({"./sounds/a.wav": wav(0.3 * TONE), "./sounds/licence.txt": b"x"}))
    monkeypatch.setattr(people.download, "from_url", lambda url, sha256, target: path)
    package = people.Package("http://x/sounds.deb", "", "./sounds", "someone", "CC0", {})
    pcm = package.pcm("a.wav")
    assert len(pcm) == pytest.approx(8000, abs=1600)
    assert np.abs(pcm).max() == pytest.approx(1, abs=0.01)


def test_samples_without_a_header_are_read_as_the_package_says(tmp_path: Path, monkeypatch) -> None:
    samples = (TONE * 9000).astype(np.int16)
    path = tmp_path / "sounds.deb"
    path.write_bytes(debian({"./a.raw": struct.pack(f"<{len(samples)}h", *samples)}))
    monkeypatch.setattr(people.download, "from_url", lambda url, sha256, target: path)
    read = {"samplerate": 16000, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    package = people.Package("http://x/sounds.deb", "", ".", "someone", "CC0", read)
    assert len(package.pcm("a.raw")) == pytest.approx(4000, abs=1600)


def test_g722_is_decoded_by_ffmpeg(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "sounds.deb"
    coded = subprocess.run(
        [ffmpeg.program(), "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1:r=16000", "-f", "g722", "-"],
        capture_output=True,
        check=True,
    ).stdout
    path.write_bytes(debian({"./a.g722": coded}))
    monkeypatch.setattr(people.download, "from_url", lambda url, sha256, target: path)
    pcm = people.Package("http://x/sounds.deb", "", ".", "someone", "CC0", {}).pcm("a.g722")
    assert len(pcm) == pytest.approx(16000, abs=1600)
    assert np.abs(np.fft.rfft(pcm[:16000])).argmax() * 16000 / len(pcm[:16000]) == pytest.approx(440, abs=2)


def test_an_archive_that_is_no_debian_package_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no data\.tar"):
        people._debian_data(b"!<arch>\n")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recordings that were read, each of them a tone."""
    names: list[str] = []
    monkeypatch.setattr(people.Package, "pcm", lambda self, name: names.append(name) or TONE)
    return names


def test_digits_of_both_speakers_are_asked_for_by_their_own_names(recorded: list[str]) -> None:
    turns = [turn for (turn,) in people.one_word(None)]
    digits = [int(name.removeprefix("digits/").partition(".")[0]) for name in recorded[:20]]
    expected = [f'The spoken content of the audio is "{DIGITS[digit]}".' for digit in digits]
    assert [turn.answer for turn in turns[:20]] == expected


def test_joined_digits_are_those_of_one_speaker_in_the_order_of_the_answer(recorded: list[str]) -> None:
    next(asked := people.several_digits(None))
    speakers = []
    for turns in asked:
        names = recorded[-3:]
        (speaker,) = {name.startswith("digits/") for name in names}
        speakers.append(speaker)
        words = [DIGITS[int(name.removeprefix("digits/")[0])] for name in names]
        assert turns[-1].answer == f'The spoken content of the audio is "{" ".join(words)}".'
    assert speakers == [True] * 20 + [False] * 20


def test_unknown_speech_gets_the_honest_sentence(recorded: list[str]) -> None:
    assert {turns[-1].answer for turns in people.unknown_speech(None)} == {unknown.HONEST}


@pytest.mark.parametrize("task", [task for task in TASKS if task.name.startswith(people.PREFIX)])
def test_a_task_asks_about_all_of_its_recordings(recorded: list[str], task) -> None:
    assert len([*task.ask(None)]) == task.count
    assert task.bar is None
