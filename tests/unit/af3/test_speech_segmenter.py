import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3.speech import segmenter
from af3.speech.segmenter import Segment, Segmenter
from af3.speech.spoken.english import in_english
from af3.speech.spoken.markup import plain
from tests.support.processor_time import in_loops


def segments(text: str) -> list[Segment]:
    segmenter = Segmenter()
    return segmenter.push(text) + segmenter.flush()


def speech(text: str) -> list[str]:
    return [segment.speech for segment in segments(text)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_the_first_segment_is_a_short_clause_and_later_ones_are_sentences() -> None:
    text = "I can hear a dog, which barks at a car. Then the car, a red one, drives away slowly. It is quiet now."
    assert speech(text) == [
        "I can hear a dog,",
        "which barks at a car.",
        "Then the car, a red one, drives away slowly.",
        "It is quiet now.",
    ]


def test_a_segment_leaves_with_the_first_letter_after_it() -> None:
    segmenter = Segmenter()
    assert segmenter.push("There is a dog.") == []
    assert segmenter.push(" ") == []
    assert [segment.speech for segment in segmenter.push("It")] == ["There is a dog."]


def test_a_line_break_ends_a_segment_at_once() -> None:
    segmenter = Segmenter()
    assert [segment.speech for segment in segmenter.push("A dog\n")] == ["A dog"]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith met Mrs. Jones at St. Mary's.",
        "It costs $3.14 or 1,000.50 euros.",
        "He lives in the U.S. Army base.",
        "Some animals, e.g. dogs, i.e. canines, bark.",
        "J. S. Bach wrote it on Jan. 5 as No. 4.",
        "It is approx. 5 km from www.example.com here.",
        "Wait... she said to all of them.",
        "It starts at 10:30 a.m. sharp.",
    ],
)
def test_a_full_stop_inside_a_sentence_does_not_end_it(sentence: str) -> None:
    segmenter = Segmenter()
    head = "I think so. "  # so that clauses of the next segment wait for 40 characters
    found = segmenter.push(head + sentence + " Next") + segmenter.flush()
    assert [segment.speech for segment in found if segment.ending == "sentence"][1].endswith(sentence[-12:])


def test_no_as_an_answer_ends_a_sentence_and_no_before_a_number_does_not() -> None:
    assert speech("No. There is none.") == ["No.", "There is none."]
    assert speech("It is No. 5 of them.") == ["It is No. 5 of them."]


def test_the_number_of_a_list_stays_with_its_item() -> None:
    assert speech("1. A dog\n2. A car that drives by\n") == ["1. A dog", "2. A car that drives by"]


def test_text_without_marks_is_cut_between_words() -> None:
    text = "one two three four five six seven eight nine ten " * 8
    found = speech(text)
    assert len(found) > 2
    assert all(len(segment) <= 210 for segment in found)
    assert words(" ".join(found)) == words(text)


def test_a_word_without_end_is_cut_so_that_a_segment_is_bounded() -> None:
    assert max(map(len, speech("a" * 2000))) <= 401


def test_sentences_of_scripts_without_spaces_are_cut() -> None:
    assert speech("你好。再见。") == ["你好。", "再见。"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("It is **really** _so_, `yes`.", "It is really so, yes."),
        ("# Sounds\n- a *dog*\n- rain\n", "Sounds, a dog, rain,"),
        ("See [the docs](https://a.b/c.d?e=f).", "See the docs."),
        ("At https://www.example.com/x/y.", "At example.com."),
        ("<b>Loud</b><br/>music", "Loud music"),
        ("3 * 4 = 12, so 2*3 is 6", "3 × 4 = 12, so 2×3 is 6"),
        ("a < b and c > d", "a < b and c > d"),
        ("It is 20°C 😀👍🏽 ©", "It is 20°C"),
        ("snake_case_name", "snake case name"),
        ("| dog | car |\n|---|:-:|\n| 1 | 2 |", "dog, car, 1, 2,"),
        ("---\nDone", "Done"),
        ("-5 degrees", "-5 degrees"),
    ],
)
def test_markup_is_not_read_aloud(written: str, read: str) -> None:
    assert plain(written) == read


@pytest.mark.parametrize(
    "text", ["", " ", "***", "?!", "😀😀", "---", "<br>", "$%&", "\n\n", "```\ncode\n```"]
)
def test_text_of_symbols_alone_gives_no_segment(text: str) -> None:
    assert speech(text) == []


def test_code_blocks_and_thoughts_are_not_spoken() -> None:
    assert speech("<think>Hm. A dog? Yes.</think>A dog.") == ["A dog."]
    assert speech("Like this:\n```python\nprint('x. y')\n```\nThat is all.") == ["Like this:", "That is all."]


def test_the_sources_of_the_segments_are_the_text_itself() -> None:
    text = "# Sounds\n\n**A dog**, then <think>a. b.</think>a car. ```x. y``` And rain 😀. Done."
    assert "".join(segment.source for segment in segments(text)) == text


PLAIN = st.text(st.sampled_from("abcdeXYZ019 .,;:!?-'\"\n…—é"), max_size=400)
MARKED = st.lists(
    st.sampled_from(
        [
            "**",
            "*",
            "_",
            "`",
            "```",
            "# ",
            "- ",
            "1. ",
            "[",
            "](http://a.b)",
            "<think>",
            "</think>",
            "<b>",
            "|",
            "\n",
        ]
        + ["Dog", " barks", " 3.14", ".", ", ", "! ", "e.g. ", "😀", "你好。", " "]
    ),
    max_size=80,
).map("".join)


@given(PLAIN)
def test_no_speakable_word_is_lost_or_doubled(text: str) -> None:
    assert words(" ".join(speech(text))) == words(plain(text))


@given(st.one_of(PLAIN, MARKED), st.data())
def test_the_segments_do_not_depend_on_how_the_text_is_cut_into_deltas(
    text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    segmenter = Segmenter()
    found = [
        segment
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
        for segment in segmenter.push(text[start:end])
    ]
    assert found + segmenter.flush() == segments(text)


@given(st.one_of(PLAIN, MARKED))
def test_every_segment_can_be_spoken_and_its_source_stands_in_the_text(text: str) -> None:
    found = segments(text)
    assert text.startswith("".join(segment.source for segment in found))
    assert all(any(map(str.isalnum, segment.speech)) for segment in found)


HARD = [
    "[",
    "[ ",
    "![",
    "](",
    "[a](",
    "(",
    "😀",
    "<",
    "<b",
    "<b> ",
    "<!--",
    "$",
    "$x",
    "\\(",
    "\\frac{",
    "{",
    "*",
    "_",
    "a_",
    "`",
    "```",
    "<think>",
    "|",
    "\n",
    " ",
    "-",
    "- ",
    "1",
    "1,",
    "1/",
    "1:",
    "1 - ",
    "1–",
    "+1 ",
    "²",
    "x²",
    "A♭",
    "A–",
    "Am ",
    "I–",
    "°",
    "m/s",
    "https://",
    "a.",
    "a@",
    "&lt;",
    "α",
    "，",
    "好",
    "dog ",
    "dog, ",
    "A dog. ",
    "|x",
    "⌊x",
    "<sup>",
    "Am - ",
    "I, ",
    "M3 ",
    "1/4, ",
    "0:15-",
    "kg/",
    "①",
]


@pytest.mark.parametrize("unit", HARD)
def test_the_work_grows_with_the_length_of_the_text_and_no_faster(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work: the characters that are looked through for something to say."""
    read = []
    monkeypatch.setattr(segmenter, "plain", lambda text: (read.append(len(text)), plain(text))[1])

    def work(length: int) -> int:
        read.clear()
        segments((unit * length)[:length])
        return sum(read) + 1

    assert work(4000) <= 4 * 4000
    assert work(8000) <= 2.2 * work(4000) + 800


@pytest.mark.parametrize("unit", HARD)
def test_what_a_segment_costs_is_bounded(unit: str) -> None:
    """In regular expressions too: a segment of the longest length, in processor time of this thread."""

    def loops(length: int) -> float:
        text = (unit * length)[:length]
        return min(in_loops(lambda: in_english(plain(text))) for _ in range(3))

    assert loops(400) < max(3, 16 * loops(100))


@pytest.mark.parametrize("text", ["[" * 1000, "[ " * 500, "😀" * 4000, "$x " * 1000, "(" * 2000])
def test_the_texts_that_stalled_speech_for_seconds_take_a_moment(text: str) -> None:
    assert in_loops(lambda: segments(text)) < 30
