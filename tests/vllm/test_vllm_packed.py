"""Quantised checkpoints on vLLM: greedy token ids against Transformers in float32 with the numbers they stand for.

vLLM multiplies packed weights in BF16 alone. af3-tiny decides so clearly that its ids are equal all the same. The
random checkpoint has near-ties every few tokens; there an answer may leave that of Transformers, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from build_engines.source.quantised import Method
from tests.support import packed_checkpoint, vllm
from tests.support.clips import clip, saved
from tests.support.engines import random_checkpoint
from tests.support.oracle import Oracle
from tests.support.vllm import Leaf, merged_state
from training.random_model import Family

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="vLLM multiplies packed weights on a CPU with AVX-512 alone",
)
SAMPLES = Path(__file__).parents[2] / "checkpoints" / "samples"
TOKENS = 40
MARGIN = 0.5  # of logits whose standard deviation is 4; the largest seen was 0.24
THINK = "\nPlease think and reason about the input audio before you respond."
QUESTIONS = [
    (None, "Tell me about music."),
    (0.5, "What do you hear?"),
    (3.3, "Describe the sounds."),
    (9, "And then?"),
    (12, "How often is the bell struck?"),
    (31, "What do you hear in this clip?"),
]


@dataclass(frozen=True)
class Case:
    """A random checkpoint and how it is quantised. whole: layers that stay unquantised."""

    method: Method
    family: Family
    group: int
    zeros: bool
    whole: str


CASES = [
    Case("gptq", "af3", 128, False, "layers.1.mlp"),
    Case("awq", "af3", 32, True, "layers.0.self_attn"),
    Case("compressed-tensors", "next", 32, True, "layers.1.self_attn"),
]


@dataclass
class Served:
    """A leaf and Transformers on the twin of its checkpoint, with and without the adapter."""

    leaf: Leaf
    oracle: Oracle
    thinking: Oracle


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.method)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    torch.set_num_threads(1)
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.method)
    source = random_checkpoint(family=case.family)
    written = packed_checkpoint.write(source, folder, case.method, case.group, case.zeros, case.whole)
    engines = folder / "cpu-vllm"
    vllm.write_adapter(written.packed, folder / "adapter")
    adapters = vllm.build(written.packed, engines, {"think": folder / "adapter"})
    thinking = Oracle(written.twin)
    thinking.model.load_state_dict(merged_state(adapters["think"], thinking.model))
    leaf = Leaf(engines, kv_cache_gib=0.1)
    yield Served(leaf, Oracle(written.twin), thinking)
    leaf.engine.close()


def test_answers_are_those_of_transformers_up_to_a_near_tie(served: Served, tmp_path: Path) -> None:
    equal = 0
    for place, (seconds, question) in enumerate(QUESTIONS):
        path = None if seconds is None else saved(tmp_path, clip(seconds, seed=100 + place), f"{place}.wav")
        found = served.leaf.ask(f"plain-{place}", question, _clips(path), max_tokens=TOKENS)
        equal += _equal_up_to_a_near_tie(served.oracle, question, path, found)
    print(f"{equal} of {len(QUESTIONS)} answers equal")
    assert equal


def test_an_adapter_answers_on_packed_weights_too(served: Served, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(5, seed=140), "think.wav")
    question = "What do you hear?"
    found = served.leaf.ask("think", question, _clips(path), max_tokens=TOKENS, think=True)
    assert found != served.oracle.generate([served.oracle.user(question + THINK, path)], TOKENS)
    _equal_up_to_a_near_tie(served.thinking, question + THINK, path, found)


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors"])
def test_the_trained_checkpoint_answers_about_the_samples_as_transformers_does(
    method: Method, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    group = 32 if method == "awq" else 64
    written = packed_checkpoint.write(SAMPLES.parent / "af3-tiny", tmp_path, method, group)
    vllm.build(written.packed, tmp_path / "cpu-vllm", {})
    oracle = Oracle(written.twin)
    samples = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    expected = [
        oracle.generate([oracle.user(sample["question"], SAMPLES / sample["file"])], 64) for sample in samples
    ]
    leaf = Leaf(tmp_path / "cpu-vllm", kv_cache_gib=0.1)
    try:
        asked = [
            leaf.submit(
                sample["file"], sample["question"], [(SAMPLES / sample["file"]).read_bytes()], max_tokens=64
            )
            for sample in samples
        ]
        assert [answer.wait() for answer in asked] == expected
    finally:
        leaf.engine.close()


def _clips(path: Path | None) -> list[bytes]:
    return [] if path is None else [path.read_bytes()]


def _equal_up_to_a_near_tie(oracle: Oracle, question: str, path: Path | None, found: list[int]) -> bool:
    """Whether the answer is the oracle's. Fails when its first other token is further from the oracle's than MARGIN."""
    conversation = [oracle.user(question, path)]
    inputs = oracle.processor.apply_chat_template(
        conversation, tokenize=True, add_generation_prompt=True, return_dict=True
    )
    with torch.inference_mode():
        output = oracle.model.generate(
            **inputs, max_new_tokens=TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    answer = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    ends = oracle.model.generation_config.eos_token_id
    given = found if len(found) == TOKENS else [*found, ends[0]]
    expected = [ends[0] if token in ends else token for token in answer]
    if given == expected:
        return True
    at = next(place for place, pair in enumerate(zip(given, expected, strict=False)) if pair[0] != pair[1])
    logits = output.logits[at][0]
    margin = float(logits.max() - logits[given[at]])
    print(
        f"{question!r}: other at token {at}, margin {margin:.3f}, standard deviation {float(logits.std()):.1f}"
    )
    assert margin <= MARGIN, (given, expected)
    return False
