"""The arithmetic of the capacity model."""

from dataclasses import replace
from typing import Any

import pytest

from perf import capacity
from perf.roofline import GPUS, Parts, Traffic, measured_parts, predict, token_path, weight_bytes

CONVERSATION = Traffic(audio_s=30.0, text_tokens=40, output_tokens=128)


def test_a_window_costs_what_the_encoders_shapes_say_and_a_short_one_less_than_its_share() -> None:
    assert Traffic(30.0).encoder_flop == pytest.approx(2.30e12)
    assert Traffic(600.0).encoder_flop == pytest.approx(20 * 2.30e12)
    assert Traffic(5.0).encoder_flop < 2.30e12 / 6
    assert Traffic(600.0, text_tokens=0).prompt_tokens == 15_000


def test_ten_minutes_of_prefill_is_the_sum_of_linear_and_attention() -> None:
    assert Traffic(600.0, text_tokens=0).prefill_flop == pytest.approx(196e12 + 45e12, rel=0.01)


def test_one_sequence_reads_the_weights_once_a_token() -> None:
    h100 = GPUS["h100"]
    found = predict(h100, "fp8", 1, Traffic(0.0, 10, 1000))
    ceiling = h100.bytes_s * Parts().bandwidth / (6.5e9 + 2.18e9)
    assert found.tokens_per_s_each == pytest.approx(ceiling, rel=0.02)


def test_more_memory_bandwidth_and_cached_clips_carry_more() -> None:
    h100, h200 = (predict(GPUS[name], "fp8", 64, CONVERSATION) for name in ("h100", "h200"))
    assert h200.requests_per_s > h100.requests_per_s
    heard = predict(GPUS["h100"], "fp8", 64, Traffic(30.0, 40, 128, heard_before=1.0))
    assert heard.requests_per_s > h100.requests_per_s
    assert heard.sessions > h100.sessions


def test_sequences_that_do_not_fit_are_not_counted() -> None:
    long = Traffic(600.0, 40, 256)
    assert predict(GPUS["l40s"], "bf16", 64, long).batch < 64
    assert predict(GPUS["h200"], "fp8", 64, long).batch == 64


def test_the_hosts_token_path_ends_what_a_faster_gpu_would_carry() -> None:
    """One process passes every token on, so that more cores do not help beyond it."""
    text = Traffic(0.0, 10, 1000)
    quick = replace(GPUS["h100"], bytes_s=1e14, llm_flop_s=1e17)
    assert token_path(4) < token_path(32) == token_path(64)
    for cores in (4, 32):
        found = predict(quick, "fp8", 64, text, cores=cores)
        assert found.limit == "token path"
        assert found.tokens_per_s == pytest.approx(token_path(cores))
        assert found.overlapped_per_s <= token_path(cores) / text.output_tokens
    assert predict(GPUS["h100"], "fp8", 1, text).limit == "GPU"


def test_overlapped_kernels_carry_more_but_not_twice_as_much() -> None:
    found = predict(GPUS["l40s"], "fp8", 24, CONVERSATION)
    assert found.requests_per_s < found.overlapped_per_s <= 2 * found.requests_per_s


def test_what_acceptance_measured_replaces_the_assumptions() -> None:
    gpu = GPUS["h100"]
    itl_s = weight_bytes("fp8") / (0.6 * gpu.bytes_s)
    speed = [{"streams": 8, "itl_ms": 99.0}, {"streams": 1, "itl_ms": 1000 * itl_s}]
    windows = [{"windows": 1, "tflop_per_s": 200.0}, {"windows": 20, "tflop_per_s": 0.4 * 989}]
    report = {"steps": [], "results": {"encoder.json": windows, "speed.json": speed}}
    parts = measured_parts(report, gpu, "fp8")
    assert (parts.arithmetic, parts.bandwidth) == pytest.approx((0.4, 0.6))
    assert (
        predict(gpu, "fp8", 32, CONVERSATION, parts=parts).first_token_s
        > predict(gpu, "fp8", 32, CONVERSATION).first_token_s
    )
    with pytest.raises(ValueError, match=r"no encoder\.json"):
        measured_parts({"results": {"speed.json": speed}}, gpu, "fp8")
    with pytest.raises(ValueError, match=r"speed\.json of one stream"):
        measured_parts({"results": {"encoder.json": windows, "speed.json": speed[:1]}}, gpu, "fp8")


def test_cost_follows_the_price() -> None:
    row = next(
        line
        for line in capacity.gpu_table(CONVERSATION, {"h100": 2.5}, 32, {}).splitlines()
        if "H100" in line
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(cells[-1]) == pytest.approx(2.5 / float(cells[-2]), rel=0.05)


def cell(group: str, audio_s: float, tokens: int, concurrency: int, requests_per_s: float) -> dict[str, Any]:
    """A load that costs 10 ms, 2 ms a second of audio and 0.5 ms a token, half of it in one stage."""
    spent = 100 * (0.010 + 0.002 * audio_s + 0.0005 * tokens)
    figures = {
        "requests": 100,
        "errors": 0,
        "requests_per_s": requests_per_s,
        "audio_s_per_s": audio_s * requests_per_s,
        "tokens_per_request": float(tokens),
    }
    stages = {"llm": {"processor_s": spent / 2}, "client": {"processor_s": spent / 2}}
    load = {"name": f"{audio_s} s", "concurrency": concurrency}
    return {"group": group, "load": load, "figures": figures, "stages": stages}


def test_processor_costs_are_found_and_checked_on_other_loads() -> None:
    cells = [
        cell("audio length", 2.0, 32, 1, 9.0),
        cell("audio length", 30.0, 32, 1, 9.0),
        cell("audio length", 600.0, 32, 1, 9.0) | {"stages": {"llm": {"processor_s": 1e6}}},
        cell("output length", 2.0, 8, 1, 9.0),
        cell("output length", 2.0, 512, 8, 9.0),
        cell("concurrency", 5.0, 32, 1, 9.0),
        cell("concurrency", 5.0, 32, 8, 50.0),
    ]
    cost = capacity.fit(cells)
    assert (cost.own_s, cost.audio_second_s, cost.token_s) == pytest.approx((0.010, 0.002, 0.0005))
    assert capacity.check(cells, cost, cores=2) == [("5.0 s", pytest.approx(2 / 0.036), 50.0)]
    with pytest.raises(ValueError, match="3 are needed"):
        capacity.fit(cells[:2])
