"""The measurements for a GPU, as far as they are no CUDA: in tiny sizes on this CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perf import gpu_probe
from perf.gpu_probe import TINY, HalfEncoder, Probe, Row, encoder_flop, encoder_module


def test_every_part_runs_in_tiny_sizes_and_leaves_a_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "probe.json"
    assert gpu_probe.main(["--tiny", "--device", "cpu", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = {row["what"]: row for row in found["rows"]}
    assert found["machine"]["device"] == "cpu"
    measured = [name for name, row in rows.items() if row["ms"]]
    for part in (
        "encoder, PyTorch BF16, 1 × 1 s padded to 2 s",
        "encoder, PyTorch BF16, 1 × 1 s",
        "encoder, PyTorch BF16, 2 × 2 s",
        "qkv [16 × 64] · [64 × 96], BF16",
        "encoder, ONNX Runtime, 2 × 2 s",
    ):
        assert part in measured, (part, rows.get(part))
    assert all(row["ms"] or row["note"] for row in rows.values())
    rtx = rows["encoder, TensorRT for RTX"]["note"]
    assert "runs on a GPU only" in rtx or "not installed" in rtx
    assert "| encoder, PyTorch BF16, 2 × 2 s |" in capsys.readouterr().out


def test_the_encoder_that_is_measured_computes_what_the_one_that_is_served_does() -> None:
    source = encoder_module(TINY)
    pcm = torch.randn(2, 32_000) * 0.1
    with torch.inference_mode():
        expected = source(pcm, torch.tensor([32_000, 32_000]))
        found = HalfEncoder(source)(pcm).float()
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 0.03


def test_the_arithmetic_of_a_full_window_is_what_the_documents_say() -> None:
    layer = torch.nn.Module()
    layer.fc1 = torch.nn.Linear(1280, 5120, device="meta")
    module = torch.nn.Module()
    module.tower = torch.nn.Module()
    module.tower.layers = torch.nn.ModuleList([layer] * 32)
    assert encoder_flop(module, 30) == pytest.approx(2.26e12, rel=0.02)  # type: ignore[arg-type]


def test_a_measurement_that_fails_or_comes_too_late_is_a_row_that_says_so() -> None:
    probe = Probe(TINY, "cpu")

    def broken() -> Row:
        raise RuntimeError("no kernel image\nfor this device")

    probe.add("broken", broken)
    probe.add("well", lambda: Row("well", 1.0))
    assert probe.rows == [Row("broken", note="RuntimeError: no kernel image"), Row("well", 1.0)]
    late = Probe(TINY, "cpu", limit_s=-1)
    late.add("late", broken)
    assert late.rows == [Row("late", note="left out: no time left")]


def test_a_machine_without_cuda_is_told_what_can_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert gpu_probe.main(["--out", str(tmp_path / "x")]) == 1
    assert "--tiny --device cpu" in capsys.readouterr().out
