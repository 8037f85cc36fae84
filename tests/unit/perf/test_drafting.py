"""n-gram drafting, replayed on written answers."""

import pytest

from perf.drafting import Replay, agreeing, draft, main


def test_the_last_place_of_the_longest_match_is_continued() -> None:
    assert draft([1, 2, 9, 1, 2, 3, 4, 1, 2], longest=2, most=2) == [3, 4]
    assert draft([5, 2, 7, 8, 6, 2], longest=2, most=3) == [7, 8, 6]
    assert draft([1, 2, 3], longest=3, most=4) == []


@pytest.mark.parametrize(("answer", "right"), [([1, 2, 3], 2), ([1, 4], 1), ([9], 0), ([1], 1)])
def test_a_proposal_is_right_as_far_as_the_answer_goes_on_like_it(answer: list[int], right: int) -> None:
    assert agreeing([1, 2], answer) == right


def test_an_answer_that_repeats_the_question_takes_few_steps() -> None:
    found = Replay()
    found.add([1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 3, 4, 5, 0], longest=1, most=4)
    assert (found.steps, found.written, found.accepted) == (2, 5, 3)


def test_an_answer_of_new_tokens_takes_a_step_for_each() -> None:
    found = Replay()
    found.add([1, 2, 3], [4, 5, 6, 0], longest=3, most=4)
    assert (found.steps, found.written, found.drafted) == (4, 4, 0)


def test_without_an_evaluation_the_command_that_makes_it_is_named(tmp_path, capsys) -> None:
    assert main(["--evaluation", str(tmp_path)]) == 1
    assert "make eval" in capsys.readouterr().err
