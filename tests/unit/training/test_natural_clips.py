"""The cache of natural speech: resumable, seeded, and partly kept from the training. A stand-in speaks."""

import numpy as np
import pytest

from training import natural_clips
from training.natural_clips import CHECK_FILES, KINDS, NaturalClips, speak
from training.natural_voices import HELD_OUT


class Voices:
    training = ("am_one", "bf_two", "zf_three")

    def __init__(self) -> None:
        self.mixes: list[dict[str, float]] = []

    def say(self, text: str, mix: dict[str, float], speed: float, british: bool) -> np.ndarray:
        self.mixes.append(mix)
        return np.full(100 + len(text), speed / 2, np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(natural_clips, "FOLDER", tmp_path)
    monkeypatch.setattr(natural_clips, "_voices", Voices(), raising=False)
    monkeypatch.setattr(natural_clips, "CLIPS_PER_FILE", 20)
    for file in range(6):
        natural_clips._write(file)
    return tmp_path


def test_a_clip_depends_on_its_number_alone() -> None:
    (kind, text, pcm), (again_kind, again_text, again_pcm) = speak(Voices(), 5), speak(Voices(), 5)
    assert (kind, text) == (again_kind, again_text)
    assert np.array_equal(pcm, again_pcm)
    assert len({speak(Voices(), number)[1] for number in range(50)}) > 30


def test_every_kind_is_spoken_and_shares_sum_to_one() -> None:
    assert {speak(Voices(), number)[0] for number in range(400)} == KINDS.keys()
    voices = Voices()
    for number in range(100):
        speak(voices, number)
    assert all(sum(mix.values()) == pytest.approx(1) for mix in voices.mixes)
    assert not {name for mix in voices.mixes for name in mix} & set(HELD_OUT)


def test_what_is_there_is_not_spoken_again(cache, monkeypatch) -> None:
    before = (cache / "0002.npz").read_bytes()
    (cache / "0003.npz").unlink()
    monkeypatch.setattr(
        natural_clips, "speak", lambda voices, number: ("command", f"new {number}", np.ones(5))
    )
    for file in range(6):
        natural_clips._write(file)
    assert (cache / "0002.npz").read_bytes() == before
    assert np.load(cache / "0003.npz")["samples"].size == 20 * 5


def test_the_last_files_are_for_the_check_alone(cache) -> None:
    trained, check = (NaturalClips.read(check, cache) for check in (False, True))
    counts = [sum(map(len, clips.by_kind.values())) for clips in (trained, check)]
    assert counts == [20 * (6 - CHECK_FILES), 20 * CHECK_FILES]


def test_a_drawn_clip_has_the_text_and_the_samples_that_were_spoken(cache) -> None:
    clips = NaturalClips.read(check=False, folder=cache)
    kind = next(iter(clips.by_kind))
    text, pcm = clips.draw(np.random.default_rng(0), kind)
    assert len(pcm) >= 100 + len(text)
    assert 0.3 < pcm[0] < 0.7
    assert np.ptp(pcm) == 0


def test_without_clips_the_command_that_makes_them_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m training\.natural_clips"):
        NaturalClips.read(check=False, folder=tmp_path)
