"""The comparison of the two LLM leaves: what it counts, against a door that answers in known pieces."""

from __future__ import annotations

import asyncio

import pytest

from perf import leaves
from perf.leaves import Load
from tests.support.fake_triton import FakeTriton
from tests.support.stand_in_door import door_before


def test_every_stream_asks_until_all_answers_are_given() -> None:
    load = Load()
    with FakeTriton() as triton:
        triton.unprompted = "many=5"
        with door_before(triton) as door:
            asyncio.run(leaves.put(door.url, 3, 7, 5, load))
        assert len(triton.seen) == 7
        clips = {bytes(request.raw_input_contents[0]) for request in triton.seen.values()}
    assert load.answers == 7 and len(load.first_s) == 7
    assert load.busy_s > 0
    assert len(clips) == 7  # no cache answers


def test_the_report_has_a_row_for_each_leaf_and_number_of_streams() -> None:
    loads = {
        (count, leaf): Load(4, tokens, 2.0, [0.1, 0.3], [0.01] * 8, 300 << 20)
        for count in (1, 8)
        for leaf, tokens in zip(leaves.LEAVES, (400, 100), strict=True)
    }
    told = leaves.report(loads, {"ONNX Runtime": 5.0, "vLLM": 40.0})
    assert "| 1 | ONNX Runtime | 2.00 | 200 | 200.0 | 298.0 | 10.0 | 10.0 | 300 |" in told
    assert "| 8 | vLLM | 2.00 | 50 |" in told
    assert told.endswith("ready after: ONNX Runtime 5 s, vLLM 40 s")
    assert leaves.faster(loads) == pytest.approx({1: 4.0, 8: 4.0})
