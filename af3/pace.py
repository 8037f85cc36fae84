"""Limits the responses per second, because a response costs the same with one token or ten."""

LONGEST_WAIT_S = 0.05  # 20 updates a second look smooth, whatever the load


def gap_s(answers: int, most_responses_per_s: float) -> float:
    """Least seconds between two responses of an answer, so that `answers` together keep to the limit."""
    return min(LONGEST_WAIT_S, answers / most_responses_per_s)
