"""Outcomes of the load generator → its table."""

from perf import load
from perf.load import Outcome


def outcome(kind: str, status: str = "OK") -> Outcome:
    return Outcome(kind, status, 0.1, (0.01, 0.02), 0.5, 3)


def test_leaving_is_an_error_only_for_those_who_meant_to_stay() -> None:
    left, lost = outcome("cancelling", "CANCELLED"), outcome("slow", "CANCELLED")
    refused = outcome("cancelling", "UNAVAILABLE")
    assert load.errors([outcome("burst"), left, lost, refused]) == [lost, refused]


def test_the_table_has_a_line_for_each_kind() -> None:
    silent = Outcome("slow", "UNAVAILABLE", None, (), 0.1, 0)
    lines = load.summary([outcome("burst"), outcome("burst"), silent]).splitlines()
    assert lines[2:] == [
        "| burst | 2 | 0 | 100.0 | 100.0 | 15.0 | 20.0 |",
        "| slow | 1 | 1 | – | – | – | – |",
    ]
