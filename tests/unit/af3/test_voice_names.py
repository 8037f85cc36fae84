"""What a request may call a voice."""

import pytest

from af3.errors import RequestError
from af3.speech.engines import espeak
from af3.speech.voice_names import OPENAI_VOICES, mix, resolve

KOKORO = ("af_heart", "af_sky", "am_michael", "bm_fable", *espeak.VOICES)
OFFLINE = tuple(espeak.VOICES)
NAMES = "alloy ash ballad coral echo fable nova onyx sage shimmer verse cedar marin".split()


def test_all_of_openais_names_are_known_and_no_two_share_a_natural_voice() -> None:
    assert list(OPENAI_VOICES) == NAMES
    assert len({voices[0] for voices in OPENAI_VOICES.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_of_openais_names_is_a_voice_of_every_server(name: str) -> None:
    assert resolve(name, KOKORO) in KOKORO
    assert resolve(name, OFFLINE) in OFFLINE
    assert resolve(name, ("tiny-voice",)) == "tiny-voice"


@pytest.mark.parametrize(
    ("name", "voice"), [("marin", "af_heart"), ("fable", "bm_fable"), ("ash", "am_michael")]
)
def test_a_natural_voice_comes_before_an_offline_one(name: str, voice: str) -> None:
    assert resolve(name, KOKORO) == voice


@pytest.mark.parametrize("name", KOKORO)
def test_a_voices_own_name_resolves_to_that_voice(name: str) -> None:
    assert resolve(name, KOKORO) == name


def test_a_wrong_name_lists_the_voices() -> None:
    with pytest.raises(RequestError, match=r"there is no 'nobody'; choose one of af_heart, .*en-gb-female"):
        resolve("nobody", KOKORO)


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("af_heart", {"af_heart": 1.0}),
        ("af_heart:0.7+af_sky:0.3", {"af_heart": 0.7, "af_sky": 0.3}),
        ("af_heart+af_sky", {"af_heart": 0.5, "af_sky": 0.5}),
        ("af_heart:3+af_sky:1", {"af_heart": 0.75, "af_sky": 0.25}),
        ("af_heart:1+af_heart:1", {"af_heart": 1.0}),
    ],
)
def test_the_shares_of_a_mix_add_up_to_one(name: str, shares: dict[str, float]) -> None:
    assert mix(name) == pytest.approx(shares)
    assert resolve(name, KOKORO) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("af_heart+", "is not a mix"),
        ("af_heart:x+af_sky", "is not a mix"),
        ("af_heart:-1+af_sky", "is not a mix"),
        ("af_heart:0+af_sky:0", "add up to 0"),
        ("af_heart:0.5+nobody:0.5", "'nobody' cannot be mixed; those that can: af_heart, af_sky"),
        ("af_heart+en-us", "'en-us' cannot be mixed"),
        ("+", "is not a mix"),
    ],
)
def test_a_malformed_mix_is_refused_with_a_right_one(name: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        resolve(name, KOKORO)


def test_a_server_without_the_natural_voice_says_that_nothing_can_be_mixed() -> None:
    with pytest.raises(RequestError, match="none on this server"):
        resolve("af_heart:0.7+af_sky:0.3", OFFLINE)
