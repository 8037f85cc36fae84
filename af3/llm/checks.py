"""Refuses requests that no LLM engine can answer."""

from __future__ import annotations

from af3.errors import invalid
from af3.llm.sequence import Generation


def refuse_malformed(
    generation: Generation, vocab_size: int, hidden_size: int, max_sequence_tokens: int
) -> None:
    """Raise RequestError for ids or a prompt table that do not fit the model."""
    ids, table = generation.input_ids, generation.table
    rows = 0 if table is None else len(table)
    if table is not None and (table.ndim != 2 or table.shape[1] != hidden_size):
        raise invalid(f"prompt_embedding_table: shape {list(table.shape)}, must be [P, {hidden_size}]")
    if len(ids) == 0:
        raise invalid("input_ids: empty; at least one token is needed")
    if ids.min() < 0 or ids.max() >= vocab_size + rows:
        raise invalid(
            f"input_ids: values {ids.min()}…{ids.max()} outside 0…{vocab_size + rows - 1}"
            f" (vocabulary {vocab_size}, prompt table rows {rows})"
        )
    if generation.max_new_tokens < 1 or len(ids) + generation.max_new_tokens > max_sequence_tokens:
        raise invalid(
            f"request_output_len: {generation.max_new_tokens} after a prompt of {len(ids)} tokens; must be at"
            f" least 1, and both together at most {max_sequence_tokens}"
        )
