"""Stages are skipped, rebuilt and resumed."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from build_engines import tools
from build_engines.code_graph import code_hashes
from build_engines.encoder import export_encoder
from build_engines.llm import calibration, decoder_files, qwen
from build_engines.source import tokenizer_files
from build_engines.stage import LOCK, BuildError, Stage, is_current, read_stamp, require, run
from build_engines.targets import TARGETS, cpu, nvidia
from build_engines.targets import any as any_gpu
from build_engines.tool_commands import Job
from tests.support.scrape import wait_until


class Killed(BaseException):
    """Ends a build without a chance to clean up."""


class Builder:
    """Writes one file and counts how often it was asked to."""

    def __init__(self, content: str = "weights") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, float]:
        self.calls += 1
        (folder / "model.onnx").write_text(self.content)
        return {"relative_error": 0.5}


def stage(builder: Callable[[Path], dict[str, float]], name: str = "encoder", **changes: Any) -> Stage:
    return dataclasses.replace(Stage(name, build=builder, inputs={"precision": "fp32"}), **changes)


def test_a_stage_is_built_once(tmp_path: Path) -> None:
    builder = Builder()
    run([stage(builder)], tmp_path)
    run([stage(builder)], tmp_path)
    assert builder.calls == 1
    assert (tmp_path / "encoder" / "model.onnx").read_text() == "weights"


def test_two_builds_in_one_folder_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits and finds the work done; together they would tear each other's files apart."""
    begun, proceed = Event(), Event()

    def slow(folder: Path) -> dict[str, float]:
        begun.set()
        assert proceed.wait(30)
        return builder(folder)

    builder = Builder()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(run, [stage(slow)], tmp_path)
        assert begun.wait(30)
        second = threads.submit(run, [stage(slow)], tmp_path)
        wait_until(lambda: "waiting for it" in capsys.readouterr().out or second.done())
        proceed.set()
        assert first.result(30) == second.result(30)
    assert builder.calls == 1


def test_a_changed_setting_builds_the_stage_again(tmp_path: Path) -> None:
    builder = Builder()
    run([stage(builder)], tmp_path)
    run([stage(builder, inputs={"precision": "int4"})], tmp_path)
    assert builder.calls == 2


def test_changed_code_builds_the_stage_again_and_changed_prose_does_not(tmp_path: Path) -> None:
    source = tmp_path / "code.py"
    module = ModuleType("code")
    module.__file__ = str(source)
    builder = Builder()
    documented = '"""The module."""\ndef f():\n    """The function."""\n'
    reworded = '"""A module."""\ndef f():\n    """A function."""  # and a comment\n'
    for text in (documented, reworded, 'def f():\n    return "The function."\n'):
        source.write_text(text)
        run([stage(builder, code=(module,))], tmp_path)
    assert builder.calls == 2


CODE = {
    "made.py": "import af3.kept\ndef build(): return helper()\nfrom af3.inner.tool import helper",
    "af3/__init__.py": "",
    "af3/kept.py": "def f():\n    from af3.inner import late",
    "af3/inner/__init__.py": "",
    "af3/inner/tool.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import af3.typed\nHOP = 160",
    "af3/inner/late.py": "A = 1",
    "af3/typed.py": "A = 1",
    "af3/other.py": "A = 1",
}


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("made.py", True),
        ("af3/kept.py", True),
        ("af3/inner/tool.py", True),  # imported from
        ("af3/inner/late.py", True),  # imported within a function
        ("af3/inner/__init__.py", True),
        ("af3/typed.py", False),
        ("af3/other.py", False),
    ],
)
def test_changed_code_of_an_imported_module_builds_the_stage_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, rebuilt: bool
) -> None:
    monkeypatch.setattr("build_engines.code_graph.REPOSITORY", tmp_path)
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    module = ModuleType("made")
    module.__file__ = str(tmp_path / "made.py")
    before = stage(Builder(), code=(module,)).key
    (tmp_path / changed).write_text(CODE[changed] + "\nB = 2")
    assert (stage(Builder(), code=(module,)).key != before) == rebuilt


def test_what_is_baked_into_engines_decides_their_keys() -> None:
    """The hop of the log-mel, and what decides how many frames are fed, stand in af3/inputs/audio.py."""
    assert "af3/inputs/audio.py" in code_hashes([export_encoder])
    assert {
        "build_engines/llm/decoder_graph.py",
        "build_engines/llm/quantize.py",
        "af3/llm/decoder.py",
    } <= set(code_hashes([decoder_files]))
    assert {"af3/inputs/chat_messages.py", "af3/tokenizer.py", "build_engines/source/checkpoint.py"} <= set(
        code_hashes([tokenizer_files])
    )
    assert {"build_engines/source/think.py", "build_engines/source/checkpoint.py"} <= set(code_hashes([qwen]))
    assert {"af3/inputs/prompt.py", "af3/inputs/audio.py"} <= set(code_hashes([calibration]))


EVERYWHERE = {
    "tokenizer": ("build_engines/source/tokenizer_files.py", "build_engines/source/checkpoint.py"),
    "audio_encoder": ("build_engines/encoder/export_encoder.py", "af3/inputs/audio.py"),
}
SPLIT = ("build_engines/llm/qwen.py", "build_engines/source/think.py", "build_engines/source/checkpoint.py")
TENSORRT = ("build_engines/encoder/tensorrt_build.py", "af3/encoder/tensorrt_encoder.py")
ON_CPU = EVERYWHERE | {
    "llm": ("build_engines/llm/decoder_graph.py", "build_engines/llm/quantize.py", "af3/llm/decoder.py"),
}
ON_GPU = EVERYWHERE | {
    "encoder_onnx": EVERYWHERE["audio_encoder"],
    "encoder_half": TENSORRT,
    "qwen": SPLIT,
    "calibration": ("af3/inputs/prompt.py", "af3/inputs/chat_messages.py", "af3/inputs/audio.py"),
    "trtllm_checkpoint": ("build_engines/llm/trtllm_checkpoint.py", "build_engines/llm/fp8.py"),
    "audio_encoder": TENSORRT,
    "llm": ("build_engines/llm/trtllm.py",),
}
ON_VLLM = EVERYWHERE | {"llm": SPLIT, "adapters": ("build_engines/llm/lora.py", SPLIT[1])}
ON_RTX = ON_VLLM | {
    "encoder_onnx": EVERYWHERE["audio_encoder"],
    "encoder_half": TENSORRT[:1],
    "audio_encoder": ("build_engines/encoder/rtx_build.py", TENSORRT[1]),
}


def test_a_stage_names_the_code_that_makes_it(tmp_path: Path) -> None:
    checkpoint = Mock(sha256="same")
    job = Job(TARGETS["h100"], tmp_path, tools.here(), tools.here())
    sources = any_gpu.Sources(checkpoint, {"own": Mock(sha256="same")})
    for stages, decided_by in (
        (cpu.stages(checkpoint, "fp32"), ON_CPU),
        ([one for one, _ in nvidia.stages(job, nvidia.Sources(checkpoint))], ON_GPU),
        (any_gpu.stages(sources), ON_VLLM),
        ([one for one, _ in any_gpu.placed_stages(sources, "rtx", tmp_path)], ON_RTX),
    ):
        assert {one.name for one in stages} == set(decided_by)
        for one in stages:
            missing = set(decided_by[one.name]) - set(code_hashes(one.code))
            assert not missing, f"{one.name} is not built again when {missing} change"


def test_another_tool_version_builds_the_stage_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    run([stage(builder, packages=("numpy",))], tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda package: "99.0")
    stamps = run([stage(builder, packages=("numpy",))], tmp_path)
    assert builder.calls == 2
    assert stamps["encoder"].versions == {"numpy": "99.0"}


def test_a_stage_is_built_again_when_one_it_reads_has_changed(tmp_path: Path) -> None:
    onnx, engine = Builder(), Builder()
    for precision in ("fp32", "fp32", "bf16"):
        first = stage(onnx, "onnx", inputs={"precision": precision})
        run([first, stage(engine, "engine", after=(first,))], tmp_path)
    assert (onnx.calls, engine.calls) == (2, 2)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("cut")])
def test_a_lost_or_cut_file_builds_the_stage_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    builder = Builder()
    run([stage(builder)], tmp_path)
    damage(tmp_path / "encoder" / "model.onnx")
    assert not is_current(stage(builder), tmp_path)
    run([stage(builder)], tmp_path)
    assert (tmp_path / "encoder" / "model.onnx").read_text() == "weights"


def test_a_killed_build_keeps_what_was_there_and_resumes_at_its_stage(tmp_path: Path) -> None:
    def killed(folder: Path) -> dict[str, float]:
        (folder / "half").write_text("half")
        raise Killed

    first, second = Builder(), Builder("new weights")
    run([stage(first, "first"), stage(Builder("old weights"), "second")], tmp_path)
    changed = {"precision": "int4"}
    with pytest.raises(Killed):
        run([stage(first, "first"), stage(killed, "second", inputs=changed)], tmp_path)
    assert (tmp_path / "second" / "model.onnx").read_text() == "old weights"

    run([stage(first, "first"), stage(second, "second", inputs=changed)], tmp_path)
    assert (first.calls, second.calls) == (1, 1)
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["model.onnx", "stage.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "first", "second"]


def test_a_failed_verification_installs_nothing(tmp_path: Path) -> None:
    def wrong(folder: Path) -> dict[str, float]:
        require("relative error", 0.5, 1e-4)
        return {}

    with pytest.raises(BuildError, match=r"relative error is 0\.5, above its bound 0\.0001"):
        run([stage(wrong)], tmp_path)
    assert read_stamp(tmp_path / "encoder") is None


def test_nan_exceeds_every_bound() -> None:
    with pytest.raises(BuildError, match="nan"):
        require("relative error", float("nan"), 1e-4)


def test_force_builds_what_is_up_to_date(tmp_path: Path) -> None:
    builder = Builder()
    run([stage(builder)], tmp_path)
    run([stage(builder)], tmp_path, force=True)
    assert builder.calls == 2


def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = Builder()
    run([stage(builder, "built")], tmp_path)
    capsys.readouterr()
    run([stage(builder, "built"), stage(builder, "new")], tmp_path, dry_run=True)
    assert capsys.readouterr().out == "built: up to date\nnew: would be built\n"
    assert builder.calls == 1


def test_only_leaves_the_other_stages_alone(tmp_path: Path) -> None:
    first, second = Builder(), Builder()
    stamps = run([stage(first, "first"), stage(second, "second")], tmp_path, only="second")
    assert (first.calls, second.calls) == (0, 1)
    assert list(stamps) == ["second"]


def test_an_unknown_stage_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="--only decoder: there is no such stage; the stages are encoder"):
        run([stage(Builder())], tmp_path, only="decoder")


def test_a_stamp_tells_what_was_made(tmp_path: Path) -> None:
    stamp = run([stage(Builder(), packages=("numpy",))], tmp_path)["encoder"]
    assert stamp.figures == {"relative_error": 0.5}
    assert stamp.sizes == {"model.onnx": len("weights")}
    assert len(stamp.files["model.onnx"]) == 64
    assert stamp == read_stamp(tmp_path / "encoder")
