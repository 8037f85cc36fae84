"""Limits the responses per second, because a response costs the same with one token or ten."""

LONGEST_WAIT_S = 0.05  # 20 updates a second look smooth, whatever the load


def gap_s(answers: int, most_responses_per_s: float, least_s: float = 0.0) -> float:
    """Seconds between two responses of an answer, so that `answers` together keep to the limit; at least `least_s`."""
    return min(LONGEST_WAIT_S, max(least_s, answers / most_responses_per_s))
