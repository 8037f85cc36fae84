"""The arithmetic of the capacity model."""

from typing import Any

import pytest

from perf import capacity
from perf.roofline import BANDWIDTH_PART, GPUS, Traffic, predict

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
    ceiling = h100.bytes_s * BANDWIDTH_PART / (6.5e9 + 2.18e9)
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


def test_cost_follows_the_price() -> None:
    row = next(
        line for line in capacity.gpu_table(CONVERSATION, {"h100": 2.5}).splitlines() if "H100" in line
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
