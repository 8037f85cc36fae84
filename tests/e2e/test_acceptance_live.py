"""The steps of the acceptance run that are not NVIDIA's, against a real server."""

import json

from perf.acceptance import compare_answers, encoder_speed, speed, transformers_answers


def test_the_same_server_answers_the_same_tokens_twice(url):
    first, second = compare_answers.ask(url), compare_answers.ask(url)
    assert len(first) == 8
    assert all(entry["token_ids"] for entry in first)
    assert compare_answers.compare(first, second)["same"] == 1.0


def test_bad_and_cancelled_requests_leave_the_server_answering(url):
    said = compare_answers.disturb(url)
    assert "max_tokens" in said["a parameter out of range"]
    assert not any(text.startswith("answered") for name, text in said.items() if "file" in name)


def test_speed_is_measured_of_every_stream(url):
    found = speed.measure(url, streams=2, rounds=1)
    assert found["streams"] == 2
    assert found["ttft_ms"] > 0
    assert found["tokens_per_s"] > 0


def test_transformers_answers_as_the_server_does(url, engines, tmp_path):
    """On the CPU, where both compute in float32: the step that runs on a GPU in BF16."""
    out, speed_file = tmp_path / "answers.json", tmp_path / "speed.json"
    words = ("--checkpoint", engines.checkpoint, "--device", "cpu", "--out", out, "--speed", speed_file)
    assert transformers_answers.main([str(word) for word in words]) == 0
    theirs = json.loads(out.read_text())
    assert compare_answers.compare(theirs, compare_answers.ask(url))["same"] == 1.0
    found = json.loads(speed_file.read_text())
    assert found["tokens"] == sum(len(entry["token_ids"]) for entry in theirs) > 0


def test_the_encoder_is_timed_per_window():
    class Encoder:
        calls = 0

        def encode(self, windows):
            self.calls += 1
            return windows

    encoder = Encoder()
    found = encoder_speed.measure(encoder, windows=3, repeats=5)
    assert encoder.calls == 7
    assert found["windows"] == 3
    assert found["ms_per_window"] > 0
