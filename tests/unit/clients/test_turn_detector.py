"""Where a turn begins and ends, by given probabilities."""

from clients.sound.turn_detector import TurnDetector
from clients.sound.voice_activity import FRAME_MS

LONGEST_MS = 300_000


def changes(
    probabilities: list[float], threshold: float = 0.5, silence_ms: int = 320
) -> list[tuple[int, str]]:
    detector = TurnDetector(threshold, silence_ms, LONGEST_MS)
    found = [(place, detector.take(probability)) for place, probability in enumerate(probabilities)]
    return [(place, change) for place, change in found if change is not None]


def test_a_turn_begins_with_two_frames_of_speech_and_ends_with_the_whole_pause() -> None:
    pause = 320 // FRAME_MS
    assert changes([0.1, 0.6, 0.1, 0.6, 0.6, 0.6] + [0.1] * 20) == [(4, "start"), (5 + pause, "stop")]


def test_one_frame_that_is_surely_speech_begins_a_turn() -> None:
    assert changes([0.1, 0.75] + [0.1] * 5) == [(1, "start")]
    assert changes([0.6, 0.1, 0.75]) == [(2, "start")]
    assert changes([0.1, 0.35, 0.1, 0.45], threshold=0.2) == [(3, "start")]


def test_above_a_high_threshold_no_single_frame_begins_a_turn() -> None:
    assert changes([0.1, 1.0, 0.1, 1.0, 1.0], threshold=0.9) == [(4, "start")]


def test_a_frame_between_the_thresholds_neither_begins_nor_ends_a_turn() -> None:
    assert changes([0.4] * 20) == []
    assert changes([0.6, 0.6] + [0.4] * 50) == [(1, "start")]


def test_a_short_pause_does_not_end_a_turn() -> None:
    assert changes(([0.6] * 5 + [0.1] * 9) * 3) == [(1, "start")]
    assert changes([0.6] * 5 + [0.1] * 9, silence_ms=200) == [(1, "start"), (11, "stop")]


def test_a_turn_without_end_is_ended() -> None:
    assert changes([0.6] * 9_378) == [(1, "start"), (1 + 9_375, "stop")]
