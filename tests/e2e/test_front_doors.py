"""The other ways in: HTTP with curl, and the real perf_analyzer."""

import base64
import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from serving.door.door import Door
from serving.machine import install
from tests.support.clips import clip
from tests.support.wire import ask, text_of


def curl(server: Door, body: dict[str, object], folder: Path) -> list[str]:
    """The lines that `curl` prints, as the README shows it."""
    (folder / "request.json").write_text(json.dumps(body))
    url = f"http://{server.host}:{server.ports.http}/v2/models/audio_flamingo/generate_stream"
    command = ["curl", "--silent", "--no-buffer", "--data", "@request.json", url]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def test_curl_streams_an_answer_about_a_base64_clip(server: Door, tmp_path: Path) -> None:
    data = clip(1.5, seed=2)
    uri = "data:audio/wav;base64," + base64.b64encode(data).decode()
    body = {"id": "curl-1", "audio": uri, "prompt": "What do you hear?", "max_tokens": 20}
    events = [json.loads(line.removeprefix("data: ")) for line in curl(server, body, tmp_path) if line]
    assert [event["index"] for event in events] == list(range(len(events)))
    expected = ask(server.url, [data], "What do you hear?", parameters={"max_tokens": 20})
    assert "".join(event["text"] for event in events) == text_of(expected)
    assert events[-1]["finish_reason"] == expected[-1].finish_reason


def test_an_error_over_http_names_its_cause(server: Door, tmp_path: Path) -> None:
    (line,) = [
        line for line in curl(server, {"id": "curl-2", "prompt": "?", "max_tokens": 5000}, tmp_path) if line
    ]
    assert "'max_tokens'" in line


@pytest.mark.parametrize("audio", [[0.5], [0.5, 1.0]], ids=["one clip", "two clips"])
def test_perf_analyzer_drives_the_ensemble_with_audio(
    audio: list[float], server: Door, tmp_path: Path
) -> None:
    clips = ["data:audio/wav;base64," + base64.b64encode(clip(seconds)).decode() for seconds in audio]
    rows = [
        {"audio": {"content": clips, "shape": [len(audio)]}, "prompt": {"content": ["What?"], "shape": [1]}}
    ]
    (tmp_path / "inputs.json").write_text(json.dumps({"data": rows}))
    command = f"""
        {install.PERF_ANALYZER} -m audio_flamingo -u {server.url} -i grpc --async --streaming
        --input-data inputs.json --shape audio:{len(audio)} --request-parameter max_tokens:8:int
        --concurrency-range 2 --request-count 20 -f result.csv --profile-export-file profile.json
    """.split()
    environment = os.environ | {"LD_LIBRARY_PATH": str(install.LIBRARIES)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = csv.DictReader((tmp_path / "result.csv").open())
    assert float(result["Inferences/Second"]) > 0
    # The export repeats the inputs as they are, binary length prefixes included.
    profile = json.loads((tmp_path / "profile.json").read_text(errors="replace"))
    requests = profile["experiments"][0]["requests"]
    counts = [{output["token_count"] for output in request["response_outputs"]} for request in requests]
    assert all(8 in found for found in counts)
