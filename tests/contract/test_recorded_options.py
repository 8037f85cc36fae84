"""Every flag of every command against what the pinned releases are recorded to take."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from build_engines.encoder import tensorrt_build
from build_engines.llm import trtllm
from build_engines.targets import TARGETS
from build_engines.voice import tensorrt_voice
from serving.address import Ports
from serving.host import engine_choice, launch, triton
from serving.machine import install

RECORDED = json.loads(Path(__file__).with_name("recorded_options.json").read_text())
HERE = Path("somewhere")
OPTION = re.compile(r"--([a-z][a-z-]+)")


def options_of(command: list[str], program_words: int) -> dict[str, str]:
    """`--name value` pairs after the program's own words."""
    words = command[program_words:]
    assert len(words) % 2 == 0
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def require_recorded(options: dict[str, str], tool: str) -> None:
    recorded = RECORDED[tool]["options"]
    for name, value in options.items():
        assert name in recorded, f"{tool} has no --{name}"
        known = recorded[name]
        if known.get("type") == "int":
            int(value)
        assert known.get("type") != "flag", f"--{name} of {tool} takes no value"
        assert value in known.get("values", [value]), f"--{name} of {tool} does not take {value}"
    assert set(RECORDED[tool]["must_be_given"]) <= set(options)


@pytest.mark.parametrize("precision", ["fp8", "bf16", "int8", "int4"])
@pytest.mark.parametrize("name", TARGETS)
def test_every_flag_of_trtllm_build_is_one_it_takes(name, precision, tmp_path):
    target = TARGETS[name]
    if not target.can_run(precision):
        precision = target.llm_precision
    cache = tmp_path / "cache"
    command = trtllm.build_command(target.with_precision(precision), HERE, HERE, cache)
    require_recorded(options_of(command, 1), "trtllm-build")
    cache.touch()
    again = trtllm.build_command(target.with_precision(precision), HERE, HERE, cache)
    assert options_of(again, 1)["input_timing_cache"] == str(cache)
    require_recorded(options_of(again, 1), "trtllm-build")


def test_every_flag_of_quantize_is_one_it_takes():
    require_recorded(options_of(trtllm.quantize_command(HERE, HERE, HERE, seed=0), 2), "quantize.py")


@pytest.mark.parametrize("name", TARGETS)
def test_the_limits_of_the_target_reach_trtllm_build(name):
    target = TARGETS[name]
    options = options_of(trtllm.build_command(target, HERE, HERE, HERE), 1)
    limits = target.limits
    assert int(options["max_batch_size"]) == limits.max_batch_size
    assert int(options["max_multimodal_len"]) == limits.max_batch_size * limits.max_audio_tokens
    assert int(options["max_seq_len"]) == limits.max_sequence_tokens
    assert int(options["max_num_tokens"]) == target.max_num_tokens


@pytest.mark.parametrize("name", TARGETS)
def test_fp8_attention_stays_off_and_fp8_keeps_its_own_matrix_kernels(name):
    target = TARGETS[name]
    options = options_of(trtllm.build_command(target, HERE, HERE, HERE), 1)
    assert options["use_fp8_context_fmha"] == "disable"
    assert options["use_paged_context_fmha"] == "enable"
    assert options["gemm_plugin"] == ("disable" if target.llm_precision == "fp8" else "auto")


@pytest.mark.parametrize("name", TARGETS)
def test_every_flag_of_polygraphy_is_one_it_takes(name):
    target = TARGETS[name]
    commands = [tensorrt_build.convert_command(HERE, HERE, target, HERE)]
    for index, profile in enumerate(tensorrt_build.profiles(target)):
        commands.append(tensorrt_build.reference_command(HERE, profile, HERE))
        commands.append(tensorrt_build.compare_command(HERE, index, profile, HERE))
    for command in commands:
        known = RECORDED[f"polygraphy {command[1]}"]
        assert flags(command) <= set(known)


def flags(command: list[str]) -> set[str]:
    return {word.removeprefix("--") for word in command if word.startswith("--")}


def test_every_flag_that_builds_and_compares_a_voice_is_one_polygraphy_takes():
    shapes = tensorrt_voice.Shapes(192, 14)
    commands = tensorrt_voice.reference_commands(HERE, shapes)
    commands += tensorrt_voice.engine_commands(HERE, HERE, shapes)
    assert {command[1] for command in commands} == {"run", "convert"}
    for command in commands:
        assert flags(command) <= set(RECORDED[f"polygraphy {command[1]}"]), command


@pytest.mark.parametrize("name", TARGETS)
def test_the_profiles_reach_polygraphy_in_order(name):
    target = TARGETS[name]
    command = tensorrt_build.convert_command(HERE, HERE, target, HERE)
    most = [command[i + 1] for i, word in enumerate(command) if word == "--trt-max-shapes"]
    assert most == [f"pcm:[{p.most[0]},{p.most[1]}]" for p in tensorrt_build.profiles(target)]
    assert most[-1].startswith(f"pcm:[{target.encoder_windows},")


def test_every_flag_of_tritonserver_is_one_it_takes():
    """Printed by the release that is installed here; the GPU image's is newer and keeps them."""
    if not install.SERVER.is_file():
        pytest.skip("tritonserver is not installed")
    printed = subprocess.run(
        [install.SERVER, "--help"], env=triton._environment(), capture_output=True, text=True, check=False
    )
    known = set(OPTION.findall(printed.stdout + printed.stderr))
    given = [
        *triton._command("gpu", HERE, Ports(1, 2, 3), "127.0.0.1"),
        *triton._restrictions("key"),
        *launch.trace_options("http://collector"),
        engine_choice.CUDA_POOL,
    ]
    used = {OPTION.match(word)[1] for word in given if word.startswith("--")}
    assert "cuda-memory-pool-byte-size" in used
    assert used <= known
