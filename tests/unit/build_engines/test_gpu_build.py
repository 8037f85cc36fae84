"""A whole GPU build with stand-ins for NVIDIA's programs: what is called, and what happens when it goes
wrong.

Long because every case needs the same workshop of stand-ins.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError

import build_engines.__main__
from af3.manifest import Manifest
from build_engines import tool_commands, tools
from build_engines.llm import calibration, qwen
from build_engines.source import hub_checkpoint
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError, run
from build_engines.targets import TARGETS, nvidia
from build_engines.tools import Tools
from build_engines.voice import export_voice as voice_build
from build_engines.voice import tensorrt_voice
from serving.machine.gpu import IMAGE
from tests.support import standins
from tests.support.clips import clip, saved
from tests.support.engines import random_checkpoint
from tests.support.vits_checkpoint import save_checkpoint

REPOSITORY = Path(__file__).parents[3]


class Workshop:
    """One output folder, with stand-ins in place of the container's programs."""

    def __init__(self, folder: Path, exported: Path, precision: str = "fp8"):
        self.programs = standins.install(folder / "bin")
        tools = Tools(environment=os.environ | {"PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}"})
        target = TARGETS["h100"].with_precision(precision)
        self.output = folder / "engines" / "h100"
        shutil.copytree(exported, self.output)
        self.job = tool_commands.Job(target, self.output, local=tools, container=tools)
        (folder / "clips").mkdir()
        saved(folder / "clips", clip(1.0), "one.wav")
        clips = tuple(calibration.find_clips(folder / "clips")) if precision == "fp8" else ()
        self.sources = nvidia.Sources(open_checkpoint(str(random_checkpoint())), clips)

    def build(self, **options: bool) -> None:
        stamps = nvidia.build(self.job, self.sources, **options)
        nvidia.write_manifest(self.job, self.sources, stamps, nvidia.find_gpu(self.job))

    def programs_called(self) -> list[str]:
        return [words[0] for words in standins.calls(self.programs)]

    def served(self) -> list[str]:
        """The files of the output, without those that only the build needs."""
        hidden = {"parts", "timing"}
        return sorted(path.name for path in self.output.iterdir() if path.name not in hidden)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output in which the encoder is exported already: that takes seconds, and is tested elsewhere."""
    output = tmp_path_factory.mktemp("exported")
    job = tool_commands.Job(TARGETS["h100"], output, tools.here(), tools.here())
    nvidia.build(job, nvidia.Sources(open_checkpoint(str(random_checkpoint()))), only="encoder_onnx")
    return output


@pytest.fixture
def workshop(tmp_path: Path, exported: Path) -> Workshop:
    return Workshop(tmp_path, exported)


def test_a_build_calls_the_programs_in_order_and_leaves_engines_with_a_manifest(workshop):
    workshop.build()
    called = [words[:3] for words in standins.calls(workshop.programs)]
    assert [words[0] for words in called] == [
        *["polygraphy"] * 3,
        "python3",
        *["polygraphy"] * 4,
        "trtllm-build",
        "python3",
    ]
    manifest = Manifest.read(workshop.output)
    assert manifest.target == "h100"
    assert manifest.gpu.name == standins.GPU["identity"]["name"]
    assert manifest.gpu.image == IMAGE
    assert manifest.limits == workshop.job.target.limits
    assert set(manifest.files) == {
        "tokenizer/tokenizer.json",
        "audio_encoder/model.plan",
        "llm/config.json",
        "llm/rank0.engine",
    }
    assert manifest.verification["trtllm_checkpoint"]["kl_nats"] == 0.002
    assert manifest.verification["encoder_onnx"]


def test_a_voice_is_compiled_and_compared_graph_by_graph(workshop, tmp_path):
    voice = str(save_checkpoint(tmp_path / "tiny-voice"))
    workshop.job = replace(workshop.job, voice=tensorrt_voice.Shapes.of(voice))
    workshop.sources = replace(workshop.sources, voice=voice)
    workshop.build()
    calls = standins.calls(workshop.programs)[-10:-1]
    assert [(words[1], Path(words[2]).name) for words in calls] == [
        ("run", "text.onnx"),
        ("run", "flow.onnx"),
        ("run", "decoder.onnx"),
        *(("convert", "text.onnx"), ("run", "text.plan")),
        *(("convert", "flow.onnx"), ("run", "flow.plan")),
        *(("convert", "decoder.onnx"), ("run", "decoder.plan")),
    ]
    manifest = Manifest.read(workshop.output)
    assert manifest.voice == "tiny-voice"
    parts = ("decoder.plan", "flow.plan", "text.plan", "voice.json")
    assert {f"voice/{part}" for part in parts} < set(manifest.files)


def test_the_answers_a_voice_is_compared_with_are_those_of_its_graphs(tmp_path):
    """The real Polygraphy, on ONNX Runtime: the inputs it makes up are inputs of the graphs."""
    voice = str(save_checkpoint(tmp_path / "tiny-voice"))
    job = tool_commands.Job(TARGETS["h100"], tmp_path, tools.here(), tools.here())
    job = replace(job, voice=tensorrt_voice.Shapes.of(voice))
    run([voice_build.stage(voice)], tmp_path)
    tool_commands.voice_reference(job, tmp_path / "voice").run(tmp_path)
    assert {path.name for path in (tmp_path / "voice").glob("*.json")} >= {
        "text.json",
        "flow.json",
        "decoder.json",
    }


def test_the_configs_find_the_engines_by_a_link(workshop):
    workshop.build()
    assert (workshop.output.parent / "gpu" / "manifest.json").exists()
    workshop.build()
    assert (workshop.output.parent / "gpu").readlink() == Path("h100")


def test_nothing_is_called_again_when_nothing_has_changed(workshop):
    workshop.build()
    before = len(workshop.programs_called())
    workshop.build()
    assert workshop.programs_called()[before:] == ["python3"]  # which GPU is it?


def test_other_limits_build_the_llm_again_and_only_that(workshop):
    workshop.build()
    before = len(workshop.programs_called())
    limits = workshop.job.target.limits.model_copy(update={"max_batch_size": 16})
    target = replace(workshop.job.target, limits=limits)
    workshop.job = replace(workshop.job, target=target)
    workshop.build()
    assert workshop.programs_called()[before:] == ["trtllm-build", "python3"]
    assert Manifest.read(workshop.output).limits.max_batch_size == 16


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_other_precisions_need_no_clips(tmp_path, exported, precision):
    workshop = Workshop(tmp_path, exported, precision)
    if precision == "int4":  # the stand-in of quantize.py leaves nothing, and that is noticed
        with pytest.raises(BuildError, match="python3 succeeded but did not write rank0"):
            workshop.build()
        texts = (workshop.job.part("calibration") / "train.jsonl").read_text().splitlines()
        assert len(texts) >= 32
        assert "<|im_start|>user" in json.loads(texts[0])["text"]
        return
    workshop.build()
    assert "python3" not in workshop.programs_called()[:-1]
    assert Manifest.read(workshop.output).precision.llm == precision


def test_a_program_that_fails_leaves_no_engine_and_the_next_build_goes_on_there(workshop):
    standins.behave(workshop.programs, **{"trtllm-build": "fail"})
    with pytest.raises(
        BuildError, match="trtllm-build failed with code 3; the reason is in its output above"
    ):
        workshop.build()
    assert "llm" not in workshop.served()
    assert "manifest.json" not in workshop.served()
    before = len(workshop.programs_called())
    standins.behave(workshop.programs)
    workshop.build()
    assert workshop.programs_called()[before:] == ["trtllm-build", "python3"]


def test_a_program_that_succeeds_with_nothing_to_show_is_an_error(workshop):
    standins.behave(workshop.programs, **{"trtllm-build": "nothing"})
    with pytest.raises(BuildError, match=r"did not write rank0\.engine"):
        workshop.build()
    assert "llm" not in workshop.served()


def test_a_build_killed_half_way_leaves_no_half_engine_and_resumes(workshop, tmp_path):
    """The whole process is killed by SIGKILL when trtllm-build has written half of its files."""
    standins.behave(workshop.programs, **{"trtllm-build": "kill"})
    script = (
        "import pathlib, sys; from tests.unit.build_engines.test_gpu_build import resume;"
        " resume(pathlib.Path(sys.argv[1]))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "llm" not in workshop.served()
    assert (workshop.output / ".llm.building").exists()
    before = len(workshop.programs_called())
    standins.behave(workshop.programs)
    workshop.build()
    assert workshop.programs_called()[before:] == ["trtllm-build", "python3"]
    assert not (workshop.output / ".llm.building").exists()
    assert (workshop.output / "llm" / "rank0.engine").exists()


def resume(folder: Path) -> None:
    """Run the build of a workshop that exists already, in this process."""
    workshop = object.__new__(Workshop)
    tools = Tools(environment=os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"})
    workshop.programs, workshop.output = folder / "bin", folder / "engines" / "h100"
    workshop.job = tool_commands.Job(TARGETS["h100"], workshop.output, local=tools, container=tools)
    clips = tuple(calibration.find_clips(folder / "clips"))
    workshop.sources = nvidia.Sources(open_checkpoint(str(random_checkpoint())), clips)
    workshop.build()


def test_a_timing_cache_that_is_there_is_used_and_a_broken_one_reaches_the_builder(workshop):
    workshop.build()
    cache = workshop.job.timing_cache("llm")
    cache.write_text("of another TensorRT")
    nvidia.build(workshop.job, workshop.sources, force=True, only="llm")
    last = [words for words in standins.calls(workshop.programs) if words[0] == "trtllm-build"][-1]
    assert last[last.index("--input_timing_cache") + 1] == str(cache)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_built(workshop, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(BuildError, match=r"stages to build take .* GB and 0\.0 GB are free; make room"):
        workshop.build()
    assert workshop.programs_called() == []


def test_a_disk_that_fills_up_under_a_program_is_said_to_be_full(workshop, monkeypatch):
    workshop.build()
    standins.behave(workshop.programs, **{"trtllm-build": "full"})
    monkeypatch.setattr(nvidia, "_require_disk", lambda *_: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(BuildError, match=r"trtllm-build failed: the disk of .* is full"):
        nvidia.build(workshop.job, workshop.sources, force=True, only="llm")
    assert (workshop.output / "llm" / "rank0.engine").exists()  # the one that was there stays


def test_a_disk_that_fills_up_under_our_own_writing_is_said_to_be_full(workshop, monkeypatch):
    # Written down from a full tmpfs.
    seen = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(qwen, "save_file", Mock(side_effect=seen))
    with pytest.raises(BuildError, match=r"qwen: the disk of .* is full; make room and run the same command"):
        workshop.build()
    assert not workshop.job.part("qwen").exists()


def test_another_error_of_the_system_is_not_called_a_full_disk(workshop, monkeypatch):
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(qwen, "save_file", Mock(side_effect=denied))
    with pytest.raises(PermissionError):
        workshop.build()


def test_another_gpu_than_the_targets_is_refused_before_anything_is_built(workshop):
    other = standins.GPU | {
        "identity": standins.GPU["identity"] | {"name": "NVIDIA L40S", "compute_capability": "8.9"}
    }
    (workshop.programs / "gpu.json").write_text(json.dumps(other))
    with pytest.raises(BuildError, match=r"GPU=h100 is for an NVIDIA H100 .*has an NVIDIA L40S \(8\.9\)"):
        nvidia.find_gpu(workshop.job)


def test_an_unknown_stage_names_the_known_ones(workshop):
    with pytest.raises(
        BuildError, match="--only engine: there is no such stage; the stages are tokenizer, encoder_onnx"
    ):
        nvidia.build(workshop.job, workshop.sources, only="engine")


def test_one_stage_can_be_built_alone(workshop):
    assert list(nvidia.build(workshop.job, workshop.sources, only="qwen")) == ["qwen"]
    assert workshop.programs_called() == []


def run_command_line(monkeypatch: pytest.MonkeyPatch, programs: Path, *words: object) -> int:
    """Exit code of `python -m build_engines WORDS` with stand-ins first on PATH, in this process."""
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["build_engines", *map(str, words)])
    return build_engines.__main__.main()


def test_a_dry_run_prints_plan_sizes_and_commands_and_calls_nothing(tmp_path, monkeypatch, capsys):
    programs = standins.install(tmp_path / "bin", programs=["docker", "polygraphy"])
    source = ("--target", "h100", "--checkpoint", "nvidia/audio-flamingo-3-hf", "--dry-run")
    assert run_command_line(monkeypatch, programs, *source, "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    for part in ("KV cache", "10 min clips", "GB on disk", "Noncommercial", "to download"):
        assert part in printed
    for program in (
        "trtllm-build --checkpoint_dir",
        "python3 -m build_engines.llm.fp8",
        "polygraphy convert",
    ):
        [line] = [line for line in printed.splitlines() if program in line]
        assert line.startswith("  $ docker run")
        assert line.partition(program)[0].endswith(f"{IMAGE} ")
    assert printed.index("missing here, in the order to get it:") > printed.index("trtllm-build")
    assert "MISSING  GPU: there is no nvidia-smi here" in printed
    asked = [words[:2] for words in standins.calls(programs)]  # about the machine; nothing is started
    assert all(words in (["docker", "version"], ["docker", "info"], ["docker", "image"]) for words in asked)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_with_a_voice_prints_its_commands_and_downloads_nothing(tmp_path, monkeypatch, capsys):
    programs = standins.install(tmp_path / "bin", programs=["docker", "polygraphy"])
    source = ("--target", "h100", "--checkpoint", "nvidia/audio-flamingo-3-hf", "--dry-run")
    voice = ("--voice", "facebook/mms-tts-eng", "--output", tmp_path / "out")
    assert run_command_line(monkeypatch, programs, *source, *voice) == 0
    printed = capsys.readouterr().out
    assert "latents:[1,192,156]" in printed
    assert "a compiled VITS voice" in printed
    for name in ("text", "flow", "decoder"):
        assert f"--output {tmp_path}/out/voice/{name}.plan" in printed
    assert ["docker", "run"] not in [words[:2] for words in standins.calls(programs)]


def test_a_wrong_checkpoint_is_refused_with_its_model_type(tmp_path, monkeypatch, capsys):
    programs = standins.install(tmp_path / "bin")
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    source = ("--target", "h100", "--precision", "bf16", "--checkpoint", tmp_path / "llama")
    assert run_command_line(monkeypatch, programs, *source, "--output", tmp_path / "out") == 1
    assert "model_type is 'llama', none of audioflamingo3, musicflamingo" in capsys.readouterr().err
    assert [words[0] for words in standins.calls(programs)] == ["python3"]  # which GPU is it?


def test_the_command_line_builds_engines_with_the_containers_programs(
    tmp_path, exported, monkeypatch, capsys
):
    programs = standins.install(tmp_path / "bin")
    shutil.copytree(exported, tmp_path / "e" / "h100")
    (tmp_path / "clips").mkdir()
    saved(tmp_path / "clips", clip(1.0), "one.wav")
    source = ("--target", "h100", "--checkpoint", random_checkpoint(), "--calibration", tmp_path / "clips")
    assert run_command_line(monkeypatch, programs, *source, "--output", tmp_path / "e" / "h100") == 0
    assert "engines are in" in capsys.readouterr().out
    assert Manifest.read(tmp_path / "e" / "gpu").target == "h100"


def test_fp8_of_the_real_model_is_refused_with_too_few_clips_before_it_is_downloaded(
    tmp_path, monkeypatch, capsys
):
    programs = standins.install(tmp_path / "bin")
    monkeypatch.setattr(hub_checkpoint, "snapshot_download", Mock(side_effect=AssertionError("downloaded")))
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(calibration.CLIPS_WANTED - 1):
        saved(clips, clip(0.1), f"{number}.wav")
    words = ("--target", "h100", "--checkpoint", "nvidia/audio-flamingo-3-hf", "--output", tmp_path / "out")
    assert run_command_line(monkeypatch, programs, *words, "--calibration", clips) == 1
    said = capsys.readouterr().err
    assert f"CALIBRATION: 31 clips in {clips}, and FP8 of a full-size LLM needs 32 or more" in said
    run_command_line(monkeypatch, programs, *words, "--calibration", clips, "--dry-run")
    assert f"MISSING  calibration clips: 31 in {clips}" in capsys.readouterr().out
    saved(clips, clip(0.1), "last.wav")
    run_command_line(monkeypatch, programs, *words, "--calibration", clips, "--dry-run")
    assert "calibration clips" not in capsys.readouterr().out
    with pytest.raises(AssertionError, match="downloaded"):
        run_command_line(monkeypatch, programs, *words, "--calibration", clips)


def test_a_small_model_may_be_calibrated_on_a_few_clips(tmp_path):
    calibration.require_enough([tmp_path / "one.wav"], weights=9_000_000)
    with pytest.raises(BuildError, match="1 clips"):
        calibration.require_enough([tmp_path / "one.wav"], weights=calibration.FULL_SIZE_WEIGHTS)


def test_fp8_on_a_gpu_without_it_is_refused(tmp_path, monkeypatch, capsys):
    programs = standins.install(tmp_path / "bin")
    source = ("--target", "a100", "--precision", "fp8", "--checkpoint", "nvidia/audio-flamingo-3-hf")
    assert run_command_line(monkeypatch, programs, *source) == 1
    assert "no FP8" in capsys.readouterr().err
    assert standins.calls(programs) == []


def test_outside_the_container_every_command_goes_through_docker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    found = tools.find(tmp_path / "engines")
    words = found.command(["trtllm-build", "--help"])
    assert words[:5] == ["docker", "run", "--rm", "--gpus", "all"]
    assert words[-3:] == [IMAGE, "trtllm-build", "--help"]
    assert f"{tmp_path / 'engines'}:{tmp_path / 'engines'}" in words
    assert f"{os.getuid()}:{os.getgid()}" in words


def test_inside_the_container_commands_start_as_they_are_without_this_environment(tmp_path, monkeypatch):
    programs = standins.install(tmp_path / "bin", programs=["trtllm-build"])
    own = Path(sys.prefix) / "bin"
    monkeypatch.setenv("PATH", os.pathsep.join([str(own), str(programs), "/usr/bin"]))
    found = tools.find(tmp_path)
    assert found.prefix == ()
    assert found.environment["PATH"] == os.pathsep.join([str(programs), "/usr/bin"])
    assert found.environment["PYTHONPATH"] == str(REPOSITORY)


def test_a_machine_without_docker_says_what_to_install(tmp_path):
    tools = Tools(prefix=(str(tmp_path / "docker"),))
    with pytest.raises(
        BuildError, match=r"is not installed here, and trtllm-build is in nvcr.io.*make doctor"
    ):
        tools.run(["trtllm-build"], tmp_path)
