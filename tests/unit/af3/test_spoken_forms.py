"""What is written is said as a person would read it: a table, on the phonemes of the real voice."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3.speech.engines.espeak import EspeakVoice
from af3.speech.engines.vits import VitsSettings, VitsVoice
from af3.speech.segmenter import Segmenter
from af3.speech.spoken.english import in_english
from af3.speech.spoken.markup import plain
from tests.support.phonemes import phonemes

TABLE = Path(__file__).with_name("spoken_forms.tsv")
ROWS = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]


class Letters:
    """The synthesizer of a voice that knows nothing but small letters, as MMS does."""

    def __init__(self, language: str = "eng") -> None:
        vocabulary = {character: place for place, character in enumerate(" '-abcdefghijklmnopqrstuvwxyz")}
        self.settings = VitsSettings("letters", 16000, 1.0, vocabulary, 0, True, 256, 10, language)


def spoken_by_espeak(text: str) -> str:
    """All that a session hands to the offline voice for the answer `text`."""
    segmenter = Segmenter()
    voice = EspeakVoice(None, "en-us", 175)
    return " ".join(voice.speakable(segment.speech) for segment in segmenter.push(text) + segmenter.flush())


def spoken_by_letters(text: str, language: str = "eng") -> str:
    return VitsVoice(Letters(language), 1.0).speakable(plain(text))


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return dict(
        zip((row[0] for row in ROWS), phonemes([spoken_by_espeak(row[0]) for row in ROWS]), strict=True)
    )


@pytest.fixture(scope="module")
def meant() -> dict[str, str]:
    return dict(zip((row[0] for row in ROWS), phonemes([row[1] for row in ROWS]), strict=True))


def test_the_table_has_at_least_150_forms() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 150


@pytest.mark.parametrize(("text", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_a_written_form_is_said_as_its_words(
    text: str, words: str, written: dict[str, str], meant: dict[str, str]
) -> None:
    assert written[text] == meant[text], f"{spoken_by_espeak(text)!r} is not {words!r}"


@pytest.mark.parametrize("text", [row[0] for row in ROWS])
def test_a_voice_of_letters_gets_no_sign_and_no_digit(text: str) -> None:
    said = spoken_by_letters(text)
    assert said
    assert set(said) <= set(" '-abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1st and 3rd of 5kg, v1.2.3, $5, 90s", None),
        ("The 21st of 3", "the twenty first of three"),
        ("5kg", "five kilograms"),
        ("v1.2.3", "version one point two point three"),
        ("B♭ major", "bee flat major"),
        ("at 0:05", "at zero zero five"),
        ("3:45 pm", "three forty five pee em"),
        ("café", "cafe"),
        ("It's the dogs' bone, isn't it?", "it's the dogs' bone isn't it"),
        ("120 BPM", "one hundred twenty beats per minute"),
        ("an MP3", "an em pee three"),
    ],
)
def test_a_voice_of_letters_gets_words(text: str, said: str | None) -> None:
    if said is None:
        said = "the first and third of five kilograms version one point two point three five dollars ninety seconds"
    assert spoken_by_letters(text) == said


def test_a_voice_of_another_language_gets_nothing_english() -> None:
    assert spoken_by_letters("3 kg in B♭ am 5. Mai", "deu") == "drei kg in b am fünf mai".replace("ü", "u")
    assert spoken_by_letters("x = 5", "xxx") == "x"


# Signs and words that mean something else elsewhere.
@pytest.mark.parametrize(
    "text",
    [
        "A minor issue was found.",
        "A flat tire",
        "A natural sound",
        "Am Montag gehe ich.",
        "Em casa, ela canta.",
        "Ab Montag gilt das.",
        "Ich war um 3 am Bahnhof.",
        "Die 2. Sinfonie in B-Dur",
        "¿Qué? Señor, 1º de mayo, 2ª vez.",
        "L'été à 3h30, n° 5",
        "El niño canta así: «¡olé!»",
        "am 24.12.2024",
        "Ebb and flow",
        "The G7 summit",
        "B2B sales in Q3",
        "4K video",
        "No. It is not.",
        "Wait... she said to all of them.",
        "It is 3 in the morning, so go to bed.",
        "1,024 samples",
        "Is it? Yes! It's the dog's bone.",
    ],
)
def test_ambiguous_words_are_left_unchanged(text: str) -> None:
    assert in_english(plain(text)) == text


WRITTEN = st.lists(
    st.one_of(
        st.sampled_from([row[0] for row in ROWS]),
        st.text(
            st.sampled_from("0123456789.,:/-–−+±×x%°$€£'\" ABCDEFGIVXabmnivks♭♯#²³⁻₂½αΔ^_\\{}()[]<>=≈~٣"),
            max_size=12,
        ),
        st.text(max_size=8),
        st.sampled_from([" ", "-", "–", "/", ", ", "^", "_", "IV", "–V", "99999999999999999999", "0", "00"]),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=500)
@given(WRITTEN)
def test_any_text_can_be_said(text: str) -> None:
    said = in_english(plain(text))
    assert "  " not in said
    assert set(spoken_by_letters(text)) <= set(" '-abcdefghijklmnopqrstuvwxyz")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([row[0] for row in ROWS]), min_size=1, max_size=6),
    st.sampled_from([" ", "\n", ". "]),
    st.data(),
)
def test_written_forms_come_whole_however_they_are_cut_and_wherever_they_stall(
    forms: list[str], between: str, data: st.DataObject
) -> None:
    text = between.join(forms)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, cut, stalling = Segmenter(), Segmenter(), Segmenter()
    assert [segment for piece in pieces for segment in cut.push(piece)] + cut.flush() == whole.push(
        text
    ) + whole.flush()
    found = [segment for piece in pieces for segment in stalling.push(piece) + stalling.stalled()]
    said = "".join(segment.source for segment in found + stalling.flush())
    assert text.startswith(said)
    assert plain(text[len(said) :]) == ""
