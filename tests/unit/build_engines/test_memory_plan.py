"""Targets and the memory planner: arithmetic checked against shapes, refusals against the limits they
name.
"""

import re
from dataclasses import replace

import pytest
import torch
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration

from build_engines import memory_plan
from build_engines.memory_plan import AUDIO_FLAMINGO_3, describe, plan, require_fit
from build_engines.stage import BuildError
from build_engines.targets import TARGETS
from build_engines.targets.target import GIB, Target

H100 = TARGETS["h100"]


@pytest.mark.parametrize("seconds", [30, 120, 600, 1800])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_fits_its_gpu_however_long_its_requests(target, seconds):
    """1 800 s: of a checkpoint that hears half an hour."""
    memory = plan(target.with_audio(seconds, longest=1800), AUDIO_FLAMINGO_3)
    require_fit(memory)
    assert memory.requests_at_once(seconds) >= 1
    assert memory.free - memory.kv_cache > 0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_shorter_requests_run_together_in_larger_numbers(target):
    slots = [target.with_audio(seconds).limits.max_batch_size for seconds in (600, 120, 30)]
    assert slots == sorted(slots)
    assert slots[0] < slots[1] <= target.most_requests
    assert all(
        target.with_audio(seconds).prompt_table_rows <= target.table_rows for seconds in (30, 45, 120, 600)
    )


def test_audio_is_rounded_up_to_whole_windows_and_bounded_by_what_the_checkpoint_hears():
    assert H100.with_audio(45).limits.max_audio_tokens == 1500
    assert H100.with_audio(45).limits.max_windows_per_clip == 2
    for seconds in (0, 601):
        with pytest.raises(BuildError, match=f"AUDIO={seconds}: a request may have 1 to 600 s of audio"):
            H100.with_audio(seconds)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_tensorrt_can_index_every_prompt_table(target):
    assert target.table_rows * AUDIO_FLAMINGO_3.hidden_size < 2**31


def test_a_prompt_table_that_tensorrt_cannot_index_is_refused_with_the_number_that_fits():
    memory = plan(with_slots(TARGETS["h200"], 64), AUDIO_FLAMINGO_3)
    assert "3440640000 elements, and TensorRT indexes 2147483647" in memory.shortage
    with pytest.raises(BuildError, match="lower max_batch_size from 64 to 39"):
        require_fit(memory)


def with_slots(target: Target, slots: int) -> Target:
    return replace(target, limits=target.limits.model_copy(update={"max_batch_size": slots}))


def test_weights_are_counted_as_transformers_counts_them():
    config = AudioFlamingo3Config(
        text_config={
            "model_type": "qwen2",
            "hidden_size": 3584,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18944,
            "vocab_size": 151672,
        }
    )
    with torch.device("meta"):
        af3 = AudioFlamingo3ForConditionalGeneration(config)
    geometry = AUDIO_FLAMINGO_3
    llm = af3.model.language_model.num_parameters() + af3.lm_head.weight.numel()
    encoder = af3.model.audio_tower.num_parameters() + sum(
        weight.numel() for weight in af3.model.multi_modal_projector.parameters()
    )
    assert geometry.llm_weights == llm
    assert geometry.encoder_weights == encoder
    assert geometry.kv_bytes_per_token == 57_344


def test_the_prompt_table_has_a_slot_for_every_request():
    memory = plan(H100, AUDIO_FLAMINGO_3)
    assert memory.prompt_table == 32 * 15_000 * 3584 * 2
    assert memory.tables_in_flight == 2 * memory.prompt_table
    assert H100.prompt_table_rows // H100.limits.max_batch_size == H100.limits.max_audio_tokens


def test_the_parts_and_the_share_for_the_encoder_add_up_to_the_gpu():
    memory = plan(H100, AUDIO_FLAMINGO_3)
    assert memory.kv_cache == int(memory.free * memory_plan.KV_CACHE_FRACTION)
    assert memory.free < H100.gpu.memory_bytes - memory.llm_weights - memory.prompt_table


def test_fp8_halves_what_it_quantises_and_nothing_else():
    bf16, fp8 = (plan(H100.with_precision(name), AUDIO_FLAMINGO_3).llm_weights for name in ("bf16", "fp8"))
    assert bf16 - fp8 == AUDIO_FLAMINGO_3.quantised_weights


def test_longer_clips_fit_less_often_and_never_more_than_the_batch():
    l40s = TARGETS["l40s"]
    memory = plan(l40s, AUDIO_FLAMINGO_3)
    fits = [memory.requests_at_once(seconds) for seconds in (30, 120, 600)]
    assert fits == sorted(fits, reverse=True)
    assert fits[0] == l40s.limits.max_batch_size
    assert fits[2] == memory.kv_tokens // (15_000 + 128 + 1024)


def test_the_table_shows_every_part_and_the_requests():
    text = describe(plan(H100, AUDIO_FLAMINGO_3))
    for part in (
        "LLM weights",
        "prompt table",
        "KV cache",
        "activations",
        "encoder",
        "speech",
        "10 min clips",
    ):
        assert part in text


def test_too_many_slots_are_refused_with_the_number_that_fits():
    l40s, memory = TARGETS["l40s"], int(22 * GIB)
    with pytest.raises(BuildError, match="lower max_batch_size from 24 to") as refused:
        require_fit(plan(l40s, AUDIO_FLAMINGO_3, memory))
    named = int(re.search(r"to (\d+)", str(refused.value))[1])
    require_fit(plan(with_slots(l40s, named), AUDIO_FLAMINGO_3, memory))
    with pytest.raises(BuildError):
        require_fit(plan(with_slots(l40s, named + 1), AUDIO_FLAMINGO_3, memory))


def test_an_encoder_that_does_not_fit_beside_the_cache_names_a_limit():
    with pytest.raises(BuildError, match=r"a100.py, lower max_batch_size from 32 to 20"):
        require_fit(plan(TARGETS["a100"], AUDIO_FLAMINGO_3, gpu_memory=int(39.5 * GIB)))


def test_a_gpu_that_is_far_too_small_is_told_what_else_would_help():
    with pytest.raises(BuildError, match="No single limit is enough; use PRECISION=int8 or int4, or a GPU"):
        require_fit(plan(TARGETS["a100"], AUDIO_FLAMINGO_3, gpu_memory=16 * GIB))


def test_fp8_is_refused_where_the_gpu_has_none():
    with pytest.raises(BuildError, match=r"a100 has compute capability 8.0 and no FP8"):
        TARGETS["a100"].with_precision("fp8")


def test_an_unknown_precision_names_the_known_ones():
    with pytest.raises(BuildError, match="PRECISION=fp7: h100 knows fp8, bf16, int8, int4"):
        H100.with_precision("fp7")


def test_limits_leave_room_for_the_longest_request_of_the_model_card():
    limits = H100.limits
    assert limits.max_sequence_tokens == 15_000 + 16_000 + 1024
    assert limits.max_audio_tokens == limits.max_windows_per_clip * 750
