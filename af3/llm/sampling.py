"""Samples the next token from logits; processors run in the same order as in Transformers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from af3.errors import invalid


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of one request as TensorRT-LLM defines them: top_k 1 is greedy, top_k 0 is all tokens."""

    temperature: float = 1.0
    top_k: int = 1
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise RequestError for bad values: clients could call this step directly, without preprocess's checks."""
        if not 0 < self.temperature < np.inf:
            raise invalid(f"temperature: {self.temperature} must be above 0; for greedy send runtime_top_k 1")
        if self.top_k < 0:
            raise invalid(f"runtime_top_k: {self.top_k} must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise invalid(f"runtime_top_p: {self.top_p} must be above 0 and at most 1")
        if not 0 < self.repetition_penalty < np.inf:
            raise invalid(f"repetition_penalty: {self.repetition_penalty} must be above 0")


class Sampler:
    """Samples the tokens of one request.

    It draws one random number per token from its own seed, so the result does not depend on the rest of the batch.
    """

    def __init__(self, settings: SamplingSettings, prompt_ids: np.ndarray, vocab_size: int):
        """prompt_ids: int32 [S]; ids beyond the vocabulary (audio tokens) are never penalised."""
        self._settings = settings
        self._random = np.random.Generator(np.random.Philox(settings.seed))
        self._seen = np.zeros(vocab_size, bool)
        self._seen[prompt_ids[prompt_ids < vocab_size]] = True

    def next_token(self, logits: np.ndarray) -> int:
        """Sample from logits, float32 [V], of the last position."""
        token = self._draw(self._penalised(logits))
        self._seen[token] = True
        return token

    def _penalised(self, logits: np.ndarray) -> np.ndarray:
        """Apply CTRL's penalty (arXiv 1909.05858) to every token of the prompt and of the answer so far."""
        penalty = self._settings.repetition_penalty
        if penalty == 1.0:
            return logits
        weighed = np.where(logits < 0, logits * penalty, logits / penalty)
        return np.where(self._seen, weighed, logits)

    def _draw(self, logits: np.ndarray) -> int:
        settings = self._settings
        if settings.top_k == 1:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / settings.temperature
        candidates = _largest(scaled, settings.top_k)
        weights = np.exp(scaled[candidates] - scaled[candidates[0]])
        cumulative = np.cumsum(weights / weights.sum())
        # Nucleus sampling: keep the fewest tokens whose total probability reaches top_p.
        kept = int(np.searchsorted(cumulative, settings.top_p)) + 1
        cumulative = cumulative[:kept]
        place = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(candidates[min(place, len(cumulative) - 1)])


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values (0: all), largest first, ties by index."""
    if 0 < count < len(values):
        top = np.sort(np.argpartition(-values, count - 1)[:count])
    else:
        top = np.arange(len(values))
    return top[np.argsort(-values[top], kind="stable")]
