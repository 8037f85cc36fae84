"""`python -m build_engines` for a CPU: builds, skips, resumes, and says what is wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from af3.manifest import Manifest
from af3.speech.built_voice import available_voices
from build_engines import stage
from build_engines.__main__ import main
from tests.support.engines import build_random_engines, random_checkpoint
from tests.support.vits_checkpoint import save_checkpoint

ROOT = Path(__file__).parents[3]
STAGES = ("tokenizer", "audio_encoder", "llm")
BUILD_TIMEOUT_S = 240


def command(checkpoint: Path | str, output: Path, *options: str) -> list[str]:
    arguments = ["--target", "cpu", "--checkpoint", str(checkpoint), "--output", str(output)]
    return [sys.executable, "-m", "build_engines", *arguments, *options]


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


Build = Callable[..., Answer]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Build:
    """Runs the command in this process, which has already paid for importing torch."""

    def run(checkpoint: Path, output: Path, *options: str) -> Answer:
        monkeypatch.setattr(sys, "argv", command(checkpoint, output, *options)[2:])
        capsys.readouterr()
        return Answer(main(), *capsys.readouterr())

    return run


def lines(output: str) -> list[str]:
    """The lines about stages, without times and figures."""
    return [line.split(" in ")[0] for line in output.splitlines() if line.startswith(STAGES)]


def test_engines_that_are_up_to_date_are_left_alone(build: Build) -> None:
    built = build_random_engines()
    before = {path: path.stat().st_mtime_ns for path in built.engines.glob("*/*")}
    again = build(built.checkpoint, built.engines)
    assert again.status == 0, again.stderr
    assert lines(again.stdout) == [f"{stage}: up to date" for stage in STAGES]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_killed_build_resumes_at_the_stage_that_was_killed(build: Build, tmp_path: Path) -> None:
    checkpoint, output = random_checkpoint(), tmp_path / "cpu"
    building = subprocess.Popen(command(checkpoint, output), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    while not (output / ".audio_encoder.building").exists():
        assert building.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline, "the encoder stage never began"
        time.sleep(0.01)
    building.send_signal(signal.SIGKILL)
    building.wait()
    assert not (output / "audio_encoder").exists()
    assert not (output / "manifest.json").exists()

    resumed = build(checkpoint, output)
    assert resumed.status == 0, resumed.stderr
    assert lines(resumed.stdout) == [
        "tokenizer: up to date",
        "audio_encoder: building",
        "audio_encoder: built",
        "llm: building",
        "llm: built",
    ]
    manifest = Manifest.read(output)
    assert manifest.verification["audio_encoder"]["relative_error"] < 1e-4
    assert manifest.verification["llm"]["tokens_differing"] == 0
    assert sorted(path.name for path in output.iterdir()) == sorted([*STAGES, "manifest.json", stage.LOCK])

    forced = build(checkpoint, output, "--force", "--only", "llm")
    assert forced.status == 0, forced.stderr
    assert lines(forced.stdout) == ["llm: building", "llm: built"]

    smaller = build(checkpoint, output, "--precision", "int4")
    assert smaller.status == 0, smaller.stderr
    assert "audio_encoder: built" in lines(smaller.stdout)
    manifest = Manifest.read(output)
    assert (manifest.precision.llm, manifest.precision.audio_encoder) == ("int4", "int8")
    assert 1e-3 < manifest.verification["audio_encoder"]["relative_error"] < 5e-2


def test_a_manifest_never_describes_engines_of_other_settings(build: Build, tmp_path: Path) -> None:
    built = build_random_engines()
    engines = shutil.copytree(built.engines, tmp_path / "cpu")
    answer = build(built.checkpoint, engines, "--only", "tokenizer", "--precision", "int4")
    assert answer.status == 0
    assert "llm is not built or has other settings" in answer.stdout
    assert Manifest.read(engines).precision.llm == "fp32"


def test_a_dry_run_for_any_gpu_says_how_many_requests_it_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The slots are those of vLLM; of half an hour 3.7 GB of keys and values each, a GPU holds fewer."""
    words = ["--target", "any", "--checkpoint", "nvidia/audio-flamingo-next-hf", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["build_engines", *words, "--output", str(tmp_path / "any")])
    assert main() in (0, None)
    said = capsys.readouterr().out
    assert "clips of 1800 s" in said and "64 requests at once" in said
    small, large = said.split("memory plan: any, ")[1:]
    assert small.startswith("24.0 GiB") and "does not fit: the KV cache would hold" in small
    assert "use PRECISION=fp8" in small
    assert large.startswith("80.0 GiB") and "does not fit" not in large
    held = {seconds: int(count) for seconds, count in re.findall(r"(\d+) s of audio +(\d+)", large)}
    assert held["30"] == 64 and 10 <= held["1800"] < 64
    assert not (tmp_path / "any").exists()


def test_a_dry_run_builds_nothing(build: Build, tmp_path: Path) -> None:
    answer = build(random_checkpoint(), tmp_path / "cpu", "--dry-run")
    assert answer.status == 0, answer.stderr
    assert lines(answer.stdout) == [f"{stage}: would be built" for stage in STAGES]
    assert not list((tmp_path / "cpu").glob("*"))


def test_a_voice_is_built_into_the_engines_and_stays_when_they_are_built_without_it(
    build: Build, tmp_path: Path
) -> None:
    built, voice = build_random_engines(), save_checkpoint(tmp_path / "tiny-voice")
    engines = shutil.copytree(built.engines, tmp_path / "cpu")
    assert Manifest.read(engines).voice is None
    planned = build(built.checkpoint, engines, "--voice", str(voice), "--dry-run")
    assert "voice: would be built" in planned.stdout
    assert available_voices(engines)[0] == "en-us"

    answer = build(built.checkpoint, engines, "--voice", str(voice))
    assert answer.status == 0, answer.stderr
    again = build(built.checkpoint, engines)
    assert again.status == 0, again.stderr
    manifest = Manifest.read(engines)
    assert manifest.voice == available_voices(engines)[0] == "tiny-voice"
    assert manifest.verification["voice"]["waveform_difference"] < 1e-3
    parts = ("decoder.onnx", "flow.onnx", "text.onnx", "voice.json")
    assert {f"voice/{part}" for part in parts} < set(manifest.files)


def test_a_folder_that_is_no_voice_is_an_error_of_one_line(build: Build, tmp_path: Path) -> None:
    built = build_random_engines()
    answer = build(built.checkpoint, tmp_path / "cpu", "--voice", str(tmp_path))
    assert answer.status == 1
    assert answer.stderr.splitlines()[-1].startswith(f"error: VOICE={tmp_path}: no model.safetensors")


def test_another_model_is_an_error_of_one_line(build: Build, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    answer = build(tmp_path, tmp_path / "cpu")
    assert answer.status == 1
    assert answer.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path}/config.json: model_type is 'whisper'"
    )
    assert "Traceback" not in answer.stderr


def test_an_interrupted_build_says_how_to_resume(tmp_path: Path) -> None:
    output = tmp_path / "cpu"
    building = subprocess.Popen(
        command(random_checkpoint(), output),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (output / ".audio_encoder.building").exists():
        assert building.poll() is None, "the build ended before it could be interrupted"
        time.sleep(0.01)
    os.kill(building.pid, signal.SIGINT)
    _, errors = building.communicate(timeout=BUILD_TIMEOUT_S)
    assert building.returncode == 130
    assert errors.endswith("interrupted; run the same command again to resume at this stage\n")


@pytest.mark.parametrize("options", [["--precision", "fp8"], ["--only", "decoder"]])
def test_a_wrong_option_is_answered_with_what_there_is(
    build: Build, tmp_path: Path, options: list[str]
) -> None:
    answer = build(random_checkpoint(), tmp_path / "cpu", *options)
    assert answer.status == 1
    assert "fp32, int4" in answer.stderr or "tokenizer, audio_encoder, llm" in answer.stderr
