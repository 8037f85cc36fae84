"""Sampled answers are drawn from the probabilities that Transformers computes, whatever the leaf's random numbers."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.likelihood import Deviations, answer_logits
from tests.support.oracle import Oracle
from tests.support.wire import ask, ids_of

QUESTION, ANSWERS, TOKENS, HOT = "Go on.", 64, 80, 1.5


def test_sampled_answers_follow_the_probabilities_of_transformers(url: str, oracle: Oracle) -> None:
    """Neither more nor less surprising, and ended as often, as chance has it: within four standard deviations."""

    def sampled(seed: int) -> list[int]:
        parameters = {"max_tokens": TOKENS, "temperature": HOT, "seed": seed}
        return ids_of(ask(url, prompt=QUESTION, parameters=parameters))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(sampled, range(ANSWERS)))
    assert len(set(map(tuple, answers))) == ANSWERS
    deviations = Deviations()
    ends = oracle.model.generation_config.eos_token_id
    for answer in answers:
        drawn = [*answer, *([None] if len(answer) < TOKENS else [])]
        deviations.add(answer_logits(oracle, QUESTION, answer)[: len(drawn)] / HOT, drawn, ends)
    surprise, ended = deviations.z
    print(f"{deviations.tokens} tokens; standard deviations: surprise {surprise:.2f}, ends {ended:.2f}")
    assert abs(surprise) < 4
    assert abs(ended) < 4
