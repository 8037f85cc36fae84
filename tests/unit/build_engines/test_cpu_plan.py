"""The plan of a CPU against the files that a build writes."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from build_engines import cpu_plan, memory_plan
from build_engines.source import reach
from build_engines.source.checkpoint import open_checkpoint
from build_engines.targets import nvidia
from tests.support.engines import build_random_engines


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def weights(folder: Path) -> int:
    """Without the gaps between them, which are as large as the weights of a model so small."""
    tensors = onnx.load(folder / "decoder.onnx", load_external_data=False).graph.initializer
    lengths = (int(entry.value) for one in tensors for entry in one.external_data if entry.key == "length")
    return sum(lengths) + (folder / "embeddings.npy").stat().st_size


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_weights_take_what_was_planned(precision: str) -> None:
    built = build_random_engines(precision=precision)  # type: ignore[arg-type]
    source = open_checkpoint(str(built.checkpoint))
    geometry = nvidia.geometry(source)
    # Of a model so small they are most of it; at full size 0.1 %.
    rope_tables = source.text_config.max_position_embeddings * geometry.head_dim * 4
    planned = cpu_plan.llm_bytes(geometry, precision)
    assert planned == pytest.approx(weights(built.engines / "llm") - rope_tables, rel=0.1)


def test_the_encoder_takes_what_was_planned_and_its_constants() -> None:
    built = build_random_engines()
    geometry = nvidia.geometry(open_checkpoint(str(built.checkpoint)))
    left = stored(built.engines / "audio_encoder") - cpu_plan.encoder_bytes(geometry)
    assert 0 < left < 1.5 * memory_plan.LOG_MEL_BYTES


def test_the_plan_of_an_int4_llm_has_an_int8_encoder() -> None:
    known = reach.AUDIO_FLAMINGO_3
    geometry = memory_plan.published(known)
    assert re.search(r"encoder +2\.4 GiB  fp32", cpu_plan.describe(geometry, known, "fp32"))
    assert re.search(r"encoder +0\.6 GiB  int8", cpu_plan.describe(geometry, known, "int4"))


def test_half_an_hour_takes_seven_gibibytes_of_keys_and_values() -> None:
    known = reach.AUDIO_FLAMINGO_NEXT
    told = cpu_plan.describe(memory_plan.published(known), known, "fp32")
    assert re.search(r"KV cache +7\.0 GiB  of the longest request, 65096 tokens", told)
    assert cpu_plan.kv_bytes(memory_plan.WITH_ROTATION, "bf16", 65_096) == 65_096 * 28 * 2 * 4 * 128 * 2
