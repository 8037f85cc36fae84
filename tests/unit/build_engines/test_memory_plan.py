"""Targets and the memory planner: arithmetic checked against shapes, refusals against the limits they
name.
"""

import re
from dataclasses import replace

import pytest
import torch
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, MusicFlamingoConfig
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

from af3.encoder.tensorrt_encoder import TensorRTEncoder
from build_engines import memory_plan
from build_engines.encoder import tensorrt_build
from build_engines.memory_plan import AUDIO_FLAMINGO_3, WITH_ROTATION, describe, plan, require_fit
from build_engines.source import reach
from build_engines.stage import BuildError
from build_engines.targets import TARGETS
from build_engines.targets.target import GIB, Target
from serving.host import engine_choice
from tests.support.tiny import MODEL, manifest

H100 = TARGETS["h100"]


@pytest.mark.parametrize("known", [reach.AUDIO_FLAMINGO_3, reach.AUDIO_FLAMINGO_NEXT], ids=["af3", "next"])
@pytest.mark.parametrize("seconds", [30, 120, 600, 1800])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_fits_its_gpu_however_long_its_requests(target, seconds, known):
    if seconds > known.clip_seconds:
        with pytest.raises(BuildError, match=f"1 to {known.clip_seconds} s of audio"):
            target.hearing(known, seconds)
        return
    memory = plan(target.hearing(known, seconds), memory_plan.published(known))
    require_fit(memory)
    assert memory.target.limits.max_clip_seconds == seconds
    assert memory.requests_at_once(seconds) >= 1
    assert memory.free - memory.kv_cache > 0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_shorter_requests_run_together_in_larger_numbers(target):
    slots = [
        target.hearing(reach.AUDIO_FLAMINGO_3, seconds).limits.max_batch_size for seconds in (600, 120, 30)
    ]
    assert slots == sorted(slots)
    assert slots[0] < slots[1] <= target.most_requests
    assert all(
        target.hearing(reach.AUDIO_FLAMINGO_3, seconds).prompt_table_rows <= target.table_rows
        for seconds in (30, 45, 120, 600)
    )


def test_audio_is_rounded_up_to_whole_windows_and_bounded_by_what_the_checkpoint_hears():
    assert H100.hearing(reach.AUDIO_FLAMINGO_3, 45).limits.max_audio_tokens == 1500
    assert H100.hearing(reach.AUDIO_FLAMINGO_3, 45).limits.max_windows_per_clip == 2
    for seconds in (0, 601):
        with pytest.raises(BuildError, match=f"AUDIO={seconds}: a request may have 1 to 600 s of audio"):
            H100.hearing(reach.AUDIO_FLAMINGO_3, seconds)


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
    assert memory.cuda_pool == memory.backend_copies == memory.prompt_table
    assert H100.prompt_table_rows // H100.limits.max_batch_size == H100.limits.max_audio_tokens


def test_every_part_that_is_shown_is_counted_and_every_byte_has_a_part():
    memory = plan(TARGETS["l40s"].hearing(reach.AUDIO_FLAMINGO_NEXT), WITH_ROTATION, compiled_voice=True)
    shown = {
        name: getattr(memory, name)
        for name in vars(memory)
        if name not in ("target", "geometry", "gpu_memory")
    }
    assert all(size > 0 for size in shown.values()), shown
    assert memory.gpu_memory - sum(shown.values()) == memory.free
    rows = [line[2:22].strip() for line in describe(memory).splitlines()]
    for name in shown:
        words = (
            name.replace("_", " ")
            .replace("llm", "LLM")
            .replace("cuda", "CUDA")
            .replace("backend", "backend's")
        )
        assert words.replace("contexts", "CUDA contexts") in rows, (words, rows)


def test_a_compiled_voice_and_its_process_are_counted():
    """`model_repository/tts` runs a VITS voice on the GPU, in a process of its own; the plan said: on the CPU."""
    without, beside = plan(H100, AUDIO_FLAMINGO_3), plan(H100, AUDIO_FLAMINGO_3, compiled_voice=True)
    assert without.voice == 0
    assert without.free - beside.free == beside.voice + memory_plan.CUDA_CONTEXT_BYTES
    assert "runs on the CPU" in describe(without)
    assert "runs on the CPU" not in describe(beside)
    assert "4 processes: LLM, encoder, voice, MPS" in describe(beside)


@pytest.mark.parametrize("seconds", [30, 120, 600, 1800])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_compiled_voice_fits_or_a_limit_is_named(target, seconds):
    asked = target.hearing(reach.AUDIO_FLAMINGO_NEXT, seconds)
    beside = plan(asked, WITH_ROTATION, compiled_voice=True)
    if (target.name, seconds) not in {("l4", 600), ("a10g", 600)}:
        require_fit(beside)
        return
    with pytest.raises(
        BuildError, match=r"lower max_batch_size from 8 to \d, or take VOICE=kokoro"
    ) as refused:
        require_fit(beside)
    fewer = with_slots(asked, int(re.search(r"8 to (\d)", str(refused.value))[1]))
    require_fit(plan(fewer, WITH_ROTATION, compiled_voice=True))


def test_a_voice_that_loads_after_the_llm_needs_room_that_the_cache_leaves():
    a100 = TARGETS["a100"]
    fits = next(
        size * GIB // 4
        for size in range(4 * 30, 4 * 80)
        if plan(a100, AUDIO_FLAMINGO_3, size * GIB // 4).shortage is None
    )
    refused = plan(a100, AUDIO_FLAMINGO_3, fits, compiled_voice=True).shortage
    assert "the audio encoder and the voice need" in refused


def test_the_pool_of_triton_is_as_large_as_the_plan_says():
    memory = plan(H100, AUDIO_FLAMINGO_3)
    engines = manifest(limits=H100.limits, model=MODEL.model_copy(update={"hidden_size": 3584}))
    assert engine_choice.cuda_pool(engines).endswith(f"=0:{memory.cuda_pool}")


def test_the_encoders_buffers_are_those_that_its_runner_allocates():
    asked: list[int] = []

    class Device:
        profiles, hidden_size, dtype = tensorrt_build.profiles(H100), 3584, "bfloat16"

        def allocate(self, nbytes: int) -> int:
            asked.append(nbytes)
            return nbytes

    TensorRTEncoder(Device())
    assert sum(asked) == plan(H100, AUDIO_FLAMINGO_3).encoder_buffers


def test_the_rotation_by_time_takes_two_tables_of_every_window():
    config = MusicFlamingoConfig()
    angles = 2 * len(MusicFlamingoRotaryEmbedding(config).inv_freq)
    assert (WITH_ROTATION.rotation_angles, WITH_ROTATION.rotation_windows) == (angles, 1800 // 30)
    assert plan(H100, WITH_ROTATION).rotation_tables == 2 * 60 * 750 * angles * 2
    assert plan(H100, AUDIO_FLAMINGO_3).rotation_tables == 0


@pytest.mark.parametrize("gpu_gib", [18, 19])
def test_audio_that_is_too_long_for_the_cache_is_refused_with_the_seconds_that_fit(gpu_gib):
    l4 = TARGETS["l4"]
    with pytest.raises(
        BuildError, match=r"KV cache would hold .* Lower the audio of a request: AUDIO="
    ) as refused:
        require_fit(plan(l4.hearing(reach.AUDIO_FLAMINGO_NEXT), WITH_ROTATION, gpu_gib * GIB))
    seconds = int(re.search(r"AUDIO=(\d+)", str(refused.value))[1])
    require_fit(plan(l4.hearing(reach.AUDIO_FLAMINGO_NEXT, seconds), WITH_ROTATION, gpu_gib * GIB))
    longer = l4.hearing(reach.AUDIO_FLAMINGO_NEXT, seconds + 30)
    assert plan(longer, WITH_ROTATION, gpu_gib * GIB).shortage is not None


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
        "voice",
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
    with pytest.raises(BuildError, match=r"a100.py, lower max_batch_size from 32 to 19"):
        require_fit(plan(TARGETS["a100"], AUDIO_FLAMINGO_3, gpu_memory=int(39.5 * GIB)))


def test_a_gpu_that_is_far_too_small_is_told_what_else_would_help():
    with pytest.raises(
        BuildError, match="Lowering one limit is not enough; use PRECISION=int8 or int4, or a GPU"
    ):
        require_fit(plan(TARGETS["a100"], AUDIO_FLAMINGO_3, gpu_memory=16 * GIB))


def test_fp8_is_refused_where_the_gpu_has_none():
    with pytest.raises(BuildError, match=r"a100 has compute capability 8.0 and no FP8"):
        TARGETS["a100"].with_precision("fp8")


def test_an_unknown_precision_names_the_known_ones():
    with pytest.raises(BuildError, match="PRECISION=fp7: h100 supports fp8, bf16, int8, int4"):
        H100.with_precision("fp7")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "a100", "--precision", "fp8"), "error: PRECISION=fp8: a100 has compute capability 8.0"),
        (("--target", "h100", "--precision", "fp7"), "error: PRECISION=fp7: h100 supports fp8, bf16"),
        (("--target", "h100", "--audio-seconds", "601"), "error: AUDIO=601: a request may have 1 to 600 s"),
    ],
)
def test_the_command_answers_what_a_target_cannot_do_in_one_sentence(words, said, monkeypatch):
    monkeypatch.setattr("sys.argv", ["memory_plan", *words])
    with pytest.raises(SystemExit, match=said):
        memory_plan.main()


def test_limits_leave_room_for_the_longest_request_of_the_model_card():
    limits = H100.limits
    assert limits.max_sequence_tokens == 15_000 + 16_000 + 1024
    assert limits.max_audio_tokens == limits.max_windows_per_clip * 750


@pytest.mark.parametrize(
    ("size", "said"),
    [(7 * GIB + GIB // 2, "7.5 GiB"), (GIB // 5, "0.2 GiB"), (6 << 20, "6.0 MiB"), (0, "0.0 MiB")],
)
def test_the_parts_of_a_tiny_model_are_not_nought(size: int, said: str) -> None:
    assert memory_plan.amount(size) == said
