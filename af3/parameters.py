"""The request parameters and their bounds."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from af3.contract import DEFAULT_ANSWER_TOKENS, LONGEST_ANSWER_TOKENS
from af3.errors import invalid

# Set by Triton's front ends, not by the client; the HTTP `id` also arrives as a parameter.
TRITON_OWN = frozenset({"id", "triton_enable_empty_final_response", "binary_data_output"})
SEED_LIMIT = 2**63 - 1
MAX_STOP_STRINGS = 4
COLDEST = 1e-3  # the LLM divides logits by the temperature in float32


def _warm_or_greedy(temperature: float) -> float:
    if 0.0 < temperature < COLDEST:
        raise ValueError(f"should be 0 (greedy) or at least {COLDEST:g}")
    return temperature


class Parameters(BaseModel):
    """The parameters of one request. Decoding is greedy unless `temperature` is above 0."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_tokens: int = Field(DEFAULT_ANSWER_TOKENS, ge=1, le=LONGEST_ANSWER_TOKENS)
    temperature: Annotated[float, AfterValidator(_warm_or_greedy)] = Field(0.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0, le=1024)  # 0: all tokens
    repetition_penalty: float = Field(1.0, ge=0.5, le=2.0)
    seed: int | None = Field(None, ge=0, le=SEED_LIMIT)
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(strict=False)] = ()
    think: bool = False
    read_cut_short: bool = False
    adapter: str | None = Field(None, min_length=1, max_length=64)
    voice: str | None = Field(None, min_length=1, max_length=64)
    rate: float = Field(1.0, ge=0.5, le=2.0)

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_strings(cls, value: object) -> object:
        """Accept a JSON list: Triton's parameters are scalars, so several strings cannot come otherwise."""
        if not isinstance(value, str):
            return value
        if not value.startswith("["):
            return (value,)
        try:
            strings = json.loads(value)
        except (ValueError, RecursionError):  # also numbers and nesting beyond what Python parses
            return (value,)
        if len(strings) > MAX_STOP_STRINGS:
            raise ValueError(f"{len(strings)} strings, at most {MAX_STOP_STRINGS} are allowed")
        return tuple(strings)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


def parse_parameters(given: dict[str, Any], longest_answer: int = LONGEST_ANSWER_TOKENS) -> Parameters:
    """Parse a request's parameters as Triton passes them (`json.loads(request.parameters())`).

    longest_answer: the engines' limit in tokens. Raises RequestError that names every unknown or out-of-range
    parameter.
    """
    tokens = given.get("max_tokens")
    if isinstance(tokens, int) and tokens > longest_answer:
        raise invalid(
            f"parameter 'max_tokens': {tokens} is more than the {longest_answer} tokens of this model's "
            "longest answer; lower it"
        )
    try:
        return Parameters(**{name: value for name, value in given.items() if name not in TRITON_OWN})
    except ValidationError as error:
        raise invalid("; ".join(map(_sentence, error.errors()))) from None


def _sentence(problem: Any) -> str:
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"parameter '{name[:64]}' is unknown; known are {', '.join(Parameters.model_fields)}"
    return f"parameter '{name}': {problem['msg'].removeprefix('Value error, ')}, got {str(problem['input'])[:64]!r}"
