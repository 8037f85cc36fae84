"""A few broken files of each format; `python -m tests.fuzz.broken_files` does two thousand."""

import pytest

from tests.fuzz.broken_files import by_format, run

CASES = 8


@pytest.mark.parametrize("suffix", by_format())
def test_no_broken_file_ends_the_decoder_or_holds_it_up(suffix: str) -> None:
    counts, wrong = run(suffix, CASES)
    assert wrong == []
    assert counts.total() == CASES
