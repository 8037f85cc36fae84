"""lmms-eval asks about our clips, with our plugin and with its own `gpt4o_audio`, and the server hears them; its model
`openai`, which drops sound, fails under the guard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from serving.door.door import Door
from serving.host.triton import REPOSITORY
from tests.support import scrape
from tests.support.openai_api import base_url

SAMPLES = REPOSITORY / "checkpoints" / "samples"
SECONDS = sum(
    soundfile.info(SAMPLES / name).duration for name in ("siren.wav", "command.mp3", "trumpet.flac")
)


def run(server: Door, python: Path, model: str, arguments: str, out: Path, *options: str) -> tuple[int, str]:
    """Three questions about three clips in memory, under the guard: its exit code, and all that was said."""
    metrics = f"http://{server.metrics_host}:{server.ports.metrics}/metrics"
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "eval.heard_guard",
                "--metrics",
                metrics,
                "--seconds",
                str(SECONDS),
                "--",
            ),
            *(str(python), "-m", "lmms_eval", "--model", model, "--model_args", arguments),
            *("--include_path", "eval/lmms_plugin/tasks", "--tasks", "af3_samples", "--batch_size", "1"),
            *("--output_path", str(out)),
        ],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "LMMS_EVAL_PLUGINS": "eval.lmms_plugin",
            "PYTHONPATH": str(REPOSITORY),
            "OPENAI_BASE_URL": base_url(server),
            "OPENAI_API_KEY": "none",
            "HF_HOME": str(out / "hub"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("model", "arguments"),
    [("af3_server", "base_url={base}"), ("gpt4o_audio", "model_version=audio_flamingo")],
)
def test_lmms_eval_asks_about_our_clips_and_the_server_hears_them(
    model: str, arguments: str, server: Door, lmms_python: Path, tmp_path: Path
) -> None:
    before = scrape.settled(server)["af3_audio_seconds"]
    code, said = run(server, lmms_python, model, arguments.format(base=base_url(server)), tmp_path)
    assert code == 0, said[-6000:]
    assert "|af3_samples|" in said.replace(" ", "")
    assert scrape.settled(server)["af3_audio_seconds"] - before == pytest.approx(SECONDS, rel=0.01)


def test_lmms_evals_model_that_drops_sound_fails(server: Door, lmms_python: Path, tmp_path: Path) -> None:
    arguments = f"model_version=audio_flamingo,base_url={base_url(server)},api_key=none"
    code, said = run(server, lmms_python, "openai", arguments, tmp_path)
    assert "Selected Tasks: ['af3_samples']" in said, said[-6000:]
    assert "the server heard 0.0 s" in said
    assert code == 1


def test_the_plugin_sends_every_value_of_a_clip_or_fails(lmms_python: Path) -> None:
    program = """
import io, types, numpy, soundfile
from eval.lmms_plugin.models.af3_server import Af3Server, wav
for shape in ((1000,), (1000, 2), (2, 1000)):
    array = numpy.random.default_rng(1).normal(0, 1, shape).astype("float32")
    found, hz = soundfile.read(io.BytesIO(wav({"array": array, "sampling_rate": 44100})), dtype="float32")
    assert hz == 44100 and numpy.array_equal(found, array.T if shape == (2, 1000) else array)
for wrong in (None, 5, {}, {"path": "a"}):
    try:
        wav(wrong)
    except ValueError:
        continue
    raise SystemExit(f"{wrong} was sent")
"""
    done = subprocess.run(
        [lmms_python, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr


def test_the_plugin_fails_where_a_sample_has_no_sound_or_the_server_heard_none(
    server: Door, lmms_python: Path
) -> None:
    program = """
import sys, types
from eval.lmms_plugin.models import af3_server
from lmms_eval.api.instance import Instance

def ask(model, clips):
    request = types.SimpleNamespace(args=("What is it?", {}, lambda doc: clips, 0, "task", "test"))
    model.task_dict = {"task": {"test": [None]}}
    return model.generate_until([request])

model = af3_server.Af3Server(base_url=sys.argv[1])
try:
    ask(model, [])
except ValueError as error:
    assert "no sound" in str(error)
else:
    raise SystemExit("asked without sound")
assert isinstance(ask(af3_server.Af3Server(base_url=sys.argv[1], text_only=True), [])[0], str)
real = model._client.chat.completions.create

def deaf(**asked):
    for message in asked["messages"]:
        message["content"] = [part for part in message["content"] if part["type"] == "text"]
    return real(**asked)

model._client.chat.completions.create = deaf
try:
    ask(model, ["checkpoints/samples/siren.wav"])
except ValueError as error:
    assert "heard nothing" in str(error)
else:
    raise SystemExit("the server heard nothing, and the plugin said nothing")
"""
    done = subprocess.run(
        [lmms_python, "-c", program, base_url(server)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
