"""perf_analyzer's export → latencies, rates and errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from perf import profile

SECOND = 1_000_000_000


def text(index: int, tokens: int, finish: str = "") -> dict[str, Any]:
    return {"index": index, "token_count": tokens, "text": "a", "finish_reason": finish, "token_ids": 7}


def request(
    sent_s: float, responses: list[tuple[float, dict[str, Any]]], prompt: str = "a"
) -> dict[str, Any]:
    return {
        "timestamp": int(sent_s * SECOND),
        "request_inputs": {"prompt": prompt, "audio": "RIFF"},
        "response_timestamps": [int((sent_s + after) * SECOND) for after, _ in responses],
        "response_outputs": [outputs for _, outputs in responses],
    }


def measured(tmp_path: Path, *requests: dict[str, Any]) -> profile.Figures:
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"experiments": [{"requests": requests}]}))
    return profile.figures(profile.read(path), {"a": 2.0, "b": 10.0})


def test_rates_are_over_the_time_from_first_request_to_last_response(tmp_path: Path) -> None:
    found = measured(
        tmp_path,
        request(10, [(1, text(0, 1)), (2, text(1, 2, "length"))]),
        request(11, [(2, text(0, 1)), (3, text(1, 2, "length"))], "b"),
    )
    assert found.duration_s == pytest.approx(4)
    assert found.requests_per_s == pytest.approx(0.5)
    assert found.tokens_per_s == pytest.approx(1)
    assert found.audio_s_per_s == pytest.approx(12 / 4)
    assert found.first_token_s.p50 == pytest.approx(1.5)
    assert found.end_to_end_s.p99 == pytest.approx(2.99)


def test_several_tokens_in_one_response_share_its_gap(tmp_path: Path) -> None:
    found = measured(tmp_path, request(0, [(1, text(0, 1)), (1.4, text(1, 5)), (2, text(2, 5, "stop"))]))
    assert found.inter_token_s.samples == 4
    assert found.inter_token_s.mean == pytest.approx(0.1)
    assert found.response_gap_s.mean == pytest.approx(0.4)
    assert found.tokens_per_request == 5


def test_an_answer_without_its_end_is_an_error_and_counts_for_nothing_else(tmp_path: Path) -> None:
    found = measured(
        tmp_path,
        request(0, [(1, text(0, 1)), (2, text(1, 2, "stop"))]),
        request(0, [(1, text(0, 1))]),
        request(0, []),
    )
    assert (found.requests, found.errors, found.end_to_end_s.samples) == (3, 2, 1)


def test_speech_is_told_from_text_by_its_samples_since_other_outputs_hold_garbage(tmp_path: Path) -> None:
    spoken = {"speech": [1, 2, 3], "index": -536870768, "token_count": -536870640, "finish_reason": ""}
    last = {"speech": 144, "index": -536870720, "token_count": -536870768, "finish_reason": ""}
    silent = {"speech": 0}
    found = measured(
        tmp_path,
        request(
            0,
            [
                (1, text(0, 1) | silent),
                (2, spoken),
                (3, text(1, 2, "stop") | silent),
                (4, spoken),
                (5, last),
            ],
        ),
    )
    assert found.first_audio_s.p50 == pytest.approx(2)
    assert found.end_to_end_s.p50 == pytest.approx(4)
    assert found.tokens_per_request == 2


def test_an_export_with_binary_inputs_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    entry = json.dumps({"experiments": [{"requests": [request(0, [(1, text(0, 1, "stop"))])]}]})
    path.write_bytes(entry.encode().replace(b"RIFF", b"RIFF\xff\xfe\x01"))
    assert profile.read(path)[0].complete


def test_a_load_without_one_answer_has_no_percentiles(tmp_path: Path) -> None:
    found = measured(tmp_path, request(0, []))
    assert (found.errors, found.requests_per_s, found.first_token_s.p50) == (1, 0.0, None)
