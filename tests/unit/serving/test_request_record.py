"""What the door counts of one request, and what it writes into the journal."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2

from serving import journal
from serving.door.caller import ANYONE
from serving.door.metrics import DoorMetrics
from serving.door.request_record import RequestRecord
from tests.support.fake_triton import response

REQUEST = service_pb2.ModelInferRequest(model_name="audio_flamingo_speech", id="door")


def booked(
    status: str, *responses: service_pb2.ModelStreamInferResponse, model: str = ""
) -> dict[str, float]:
    """The samples of /metrics that are not 0, by name and label."""
    metrics = DoorMetrics(lambda: 0, lambda: 1)
    record = RequestRecord(ANYONE, "grpc", model or REQUEST.model_name, "door", "client", 1000)
    for one in responses:
        record.take(one.infer_response)
    record.book(status, metrics)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
        if sample.value and not sample.name.endswith("_bucket")
    }


def test_seconds_of_speech_are_its_samples_over_its_rate() -> None:
    blocks = [response(REQUEST, "a ", index, index == 2, bytes(2 * 6000), 24_000) for index in range(3)]
    found = booked("OK", *blocks)
    assert found["af3_spoken_audio_seconds_total audio_flamingo_speech"] == 0.75
    assert found["af3_time_to_first_audio_seconds_count"] == 1
    assert found["af3_tokens_total audio_flamingo_speech"] == 3


@pytest.mark.parametrize(
    ("status", "times"), [("OK", 1), ("INTERNAL", 0), ("CANCELLED", 0), ("UNAVAILABLE", 0)]
)
def test_only_whole_answers_have_a_duration(status: str, times: int) -> None:
    found = booked(status, response(REQUEST, "a ", 0, False, b""))
    assert found.get("af3_request_duration_seconds_count", 0) == times
    assert found[f"af3_requests_total {status}"] == 1


def test_a_client_names_neither_a_label_nor_a_model_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal").touch()
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "journal"))
    found = booked("NOT_FOUND", model="x] HACKED: ")
    assert found["af3_request_bytes_total other"] == 1000
    assert json.loads((tmp_path / "journal").read_text())["model"] == "other"
    assert not any("HACKED" in name for name in found)
