"""Parses the TensorRT-LLM backend's tensors into a Generation; refuses what is not implemented here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from af3 import contract
from af3.contract import Tensor
from af3.errors import RequestError, invalid
from af3.llm.sampling import SamplingSettings
from af3.llm.sequence import Generation

Tensors = Mapping[str, np.ndarray | None]


def stop_requested(tensors: Tensors) -> bool:
    """Whether the request stops the one with the same id."""
    return bool(_scalar(tensors, contract.STOP, False))


def generation(
    request_id: str, tensors: Tensors, timeout_us: int = 0, adapter: str | None = None
) -> Generation:
    """Parse a request of batch 1 in TensorRT-LLM's contract (model_config.md of its Triton backend).

    timeout_us: Triton's request timeout, 0 for none. adapter: the LoRA to use.
    Raises RequestError for a malformed request, or for a feature that is not implemented here.
    """
    if not request_id:
        raise invalid("the request has no id; it is how a request is stopped")
    if not _scalar(tensors, contract.STREAMING, False):
        raise RequestError(
            "UNIMPLEMENTED", "streaming: only streamed answers are implemented; send streaming = true"
        )
    ids = _row(tensors, contract.INPUT_IDS)
    if ids is None:
        raise invalid("input_ids: missing")
    length = int(_scalar(tensors, contract.INPUT_LENGTHS, len(ids)))
    if length != len(ids):
        raise invalid(f"input_lengths: {length} for {len(ids)} input_ids; they must agree")
    extra_ids = _row(tensors, contract.PROMPT_TABLE_EXTRA_IDS)
    if extra_ids is not None and len(extra_ids) != len(ids):
        raise invalid(f"prompt_table_extra_ids: {len(extra_ids)} for {len(ids)} input_ids; they must agree")
    end_id = _scalar(tensors, contract.END_ID, None)
    return Generation(
        request_id=request_id,
        input_ids=ids,
        table=_row(tensors, contract.PROMPT_EMBEDDING_TABLE),
        max_new_tokens=int(_scalar(tensors, contract.REQUEST_OUTPUT_LEN, 0)),
        end_id=None if end_id is None else int(end_id),
        stop_words=_stop_words(_row(tensors, contract.STOP_WORDS_LIST)),
        sampling=SamplingSettings(
            temperature=float(_scalar(tensors, contract.TEMPERATURE, 1.0)),
            top_k=int(_scalar(tensors, contract.RUNTIME_TOP_K, 1)),
            top_p=float(_scalar(tensors, contract.RUNTIME_TOP_P, 1.0)),
            repetition_penalty=float(_scalar(tensors, contract.REPETITION_PENALTY, 1.0)),
            seed=int(_scalar(tensors, contract.SEED, 0)),
        ),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        adapter=adapter,
    )


def _row(tensors: Tensors, tensor: Tensor) -> np.ndarray | None:
    """Return the only row of the batch."""
    value = tensors[tensor.name]
    if value is None:
        return None
    if len(value) != 1:
        raise RequestError("UNIMPLEMENTED", f"{tensor.name}: a batch of {len(value)}; send one request each")
    return value[0]


def _scalar(tensors: Tensors, tensor: Tensor, default: Any) -> Any:
    """Return the only number of a tensor, or `default` when it is absent."""
    value = tensors[tensor.name]
    if value is None or value.size == 0:
        return default
    return value.reshape(-1)[0]


def _stop_words(words: np.ndarray | None) -> tuple[tuple[int, ...], ...]:
    """Parse [2, n]: the concatenated ids of all words, and each word's end offset, padded with -1."""
    if words is None:
        return ()
    ids, ends = words
    bounds = [0, *(int(end) for end in ends if end > 0)]
    if any(later <= earlier for earlier, later in pairwise(bounds)) or bounds[-1] > len(ids):
        raise invalid("stop_words_list: the second row must hold growing end offsets, padded with -1")
    return tuple(tuple(int(token) for token in ids[start:end]) for start, end in pairwise(bounds))
