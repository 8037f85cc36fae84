"""How answers are scored."""

from training import evaluate
from training.evaluation_set import LENGTH_BASE, LENGTH_TASKS, TASKS
from training.questions import HELD_OUT_WORDINGS, WORDINGS

TASK = "sound: which"


def scores_of(*answers: tuple[str, str | None], task: str = TASK) -> evaluate.Score:
    expected = [{"id": str(i), "task": task, "answer": right} for i, (right, _) in enumerate(answers)]
    said = [
        {"id": str(i), "text": text, "error": None} for i, (_, text) in enumerate(answers) if text is not None
    ]
    return evaluate.scored(expected, said)[task]


def test_an_answer_counts_only_when_all_of_it_is_right() -> None:
    score = scores_of(
        ("A bell.", "A bell."), ("A bell.", " A bell. "), ("A bell.", "A bell"), ("A bell.", "a bell.")
    )
    assert (score.right, score.asked) == (2, 4)


def test_a_question_without_an_answer_is_wrong() -> None:
    assert scores_of(("A bell.", None)).right == 0


def test_an_error_is_wrong_and_shown() -> None:
    expected = [{"id": "0", "task": TASK, "answer": "A bell."}]
    score = evaluate.scored(expected, [{"id": "0", "text": "A bell.", "error": "timeout"}])[TASK]
    assert list(score.confusions) == [("A bell.", "error: timeout")]


def test_a_result_just_below_its_threshold_fails_and_one_on_it_passes() -> None:
    assert evaluate.Score(asked=100, right=97, bar=0.98).missed
    assert not evaluate.Score(asked=100, right=98, bar=0.98).missed
    assert not evaluate.Score(asked=100, right=0, bar=None).missed


def test_a_length_task_is_held_against_the_short_clips() -> None:
    expected = [{"id": f"s{i}", "task": LENGTH_BASE, "answer": "x"} for i in range(10)]
    expected += [{"id": f"l{i}", "task": LENGTH_TASKS[0], "answer": "x"} for i in range(10)]
    right = [{"id": f"s{i}", "text": "x"} for i in range(10)] + [
        {"id": f"l{i}", "text": "x"} for i in range(8)
    ]
    assert evaluate.scored(expected, right)[LENGTH_TASKS[0]].missed
    right.append({"id": "l8", "text": "x"})
    assert not evaluate.scored(expected, right)[LENGTH_TASKS[0]].missed


def test_confusions_are_counted_most_frequent_first() -> None:
    score = scores_of(("five", "nine"), ("one", "nine"), ("five", "nine"))
    assert evaluate.confusions({TASK: score}).splitlines()[0] == f"{TASK}: 2 x 'five' heard as 'nine'"


def test_answers_that_differ_are_listed() -> None:
    ours = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]
    assert evaluate.differing(ours, [{"id": "a", "text": "x"}, {"id": "b", "text": "z"}]) == [("b", "y", "z")]


def test_every_task_has_its_own_name() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)


def test_every_question_keeps_wordings_for_the_evaluation() -> None:
    assert all(len(set(wordings)) > HELD_OUT_WORDINGS + 2 for wordings in WORDINGS.values())
