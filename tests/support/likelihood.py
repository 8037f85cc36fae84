"""Are sampled answers distributed as a model's own probabilities say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tests.support.oracle import Oracle


@dataclass
class Deviations:
    """Sums over all tokens: what was drawn against what was to be expected, and the variance of that."""

    surprise: float = 0.0  # -log p of what was drawn, less its expectation
    surprise_variance: float = 0.0
    ends: float = 0.0  # answers that ended, less those to be expected
    ends_variance: float = 0.0
    tokens: int = 0

    def add(self, logits: torch.Tensor, drawn: Sequence[int | None], end_ids: Sequence[int]) -> None:
        """One answer: logits [T, V] already divided by the temperature, and the T tokens; None is any end token."""
        odds = logits.double().softmax(-1)
        end = odds[:, end_ids].sum(-1)
        odds[:, end_ids] = 0
        odds = torch.cat([odds, end[:, None]], 1)  # the end is one outcome, whichever token said it
        places = torch.tensor([odds.shape[1] - 1 if token is None else token for token in drawn])
        logs = odds.clamp_min(1e-300).log()
        entropy = -(odds * logs).sum(-1)
        found = -logs.gather(1, places[:, None])[:, 0]
        self.surprise += float((found - entropy).sum())
        self.surprise_variance += float(((odds * logs**2).sum(-1) - entropy**2).sum())
        self.ends += sum(token is None for token in drawn) - float(end.sum())
        self.ends_variance += float((end * (1 - end)).sum())
        self.tokens += len(drawn)

    @property
    def z(self) -> tuple[float, float]:
        """Both in standard deviations."""
        return self.surprise / self.surprise_variance**0.5, self.ends / self.ends_variance**0.5


@torch.inference_mode()
def answer_logits(oracle: Oracle, question: str, answer: Sequence[int]) -> torch.Tensor:
    """Transformers' logits [len(answer) + 1, V] before each token of an answer to a question, and after the last."""
    prompt = oracle.processor.apply_chat_template(
        [oracle.user(question)], tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    ids = torch.cat([prompt, torch.tensor([list(answer)], dtype=prompt.dtype)], 1)
    return oracle.model(input_ids=ids).logits[0, prompt.shape[1] - 1 :]
