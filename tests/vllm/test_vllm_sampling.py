"""On vLLM the same seed draws other answers than on ONNX Runtime: the random numbers are its own, the odds are not."""

from tests.e2e.test_sampled_answers import (  # noqa: F401  the same test, on the server of this folder
    test_sampled_answers_follow_the_probabilities_of_transformers,
)
