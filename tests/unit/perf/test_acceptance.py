"""The acceptance run with stand-ins: what runs, what is kept, what the report says."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from build_engines import tool_commands
from build_engines.memory_plan import AUDIO_FLAMINGO_3
from build_engines.targets import TARGETS
from build_engines.tool_commands import Job
from build_engines.tools import IMAGE_GB, Tools
from perf.acceptance import __main__ as acceptance_main
from perf.acceptance import acceptance_plan as plan
from perf.acceptance import image_checks, kills, runner
from perf.acceptance.acceptance_plan import Step
from perf.acceptance.compare_answers import compare
from perf.place import Place
from serving.machine import doctor, doctor_vllm

REPOSITORY = Path(__file__).parents[3]
RECORDED = json.loads((REPOSITORY / "tests/contract/recorded_options.json").read_text())["trtllm-build"]


def step(name: str, script: str, **more: object) -> Step:
    return Step(name, f"does {name}", ((sys.executable, "-c", script),), f"mend {name}", **more)


def states(outcomes: list[runner.Outcome]) -> dict[str, str]:
    return {outcome.name: outcome.state for outcome in outcomes}


def test_a_failed_step_says_what_to_do_and_what_needs_it_is_skipped(tmp_path):
    steps = [
        step("one", "print('well')"),
        step("two", "import sys; sys.exit(3)"),
        step("three", "print('never')", needs=("two",)),
        step("four", "print('all the same')"),
    ]
    found = runner.run(steps, tmp_path)
    assert states(found) == {"one": "passed", "two": "failed", "three": "skipped", "four": "passed"}
    report = (tmp_path / "report.md").read_text()
    assert "**two** failed" in report
    assert "ended with 3; see two.log" in report
    assert "What to do: mend two." in report
    assert (tmp_path / "one.log").read_text() == "well\n"


def test_what_passed_is_not_run_again_unless_its_commands_have_changed(tmp_path):
    count = f"open({str(tmp_path / 'count')!r}, 'a').write('x')"
    gate = f"import os, sys; sys.exit(not os.path.exists({str(tmp_path / 'gate')!r}))"
    steps = [step("one", count), step("two", gate, needs=("one",))]
    assert states(runner.run(steps, tmp_path)) == {"one": "passed", "two": "failed"}
    (tmp_path / "gate").touch()
    assert states(runner.run(steps, tmp_path)) == {"one": "passed", "two": "passed"}
    assert (tmp_path / "count").read_text() == "x"
    runner.run([step("one", count + "; print()"), steps[1]], tmp_path)
    assert (tmp_path / "count").read_text() == "xx"


def test_a_program_that_is_not_there_fails_its_step(tmp_path):
    [outcome] = runner.run([Step("one", "asks", (("no-such-program", "x"),), "install it")], tmp_path)
    assert outcome.state == "failed"
    assert "127" in outcome.reason


def test_results_are_in_the_report_and_nobodys_home_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = tmp_path / "speed.json"
    content = json.dumps([{"ttft_ms": 12.5}])
    script = f"open({str(result)!r}, 'w').write({content!r})"
    runner.run([step("speed", script, results=(result,))], tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"] == {"speed.json": [{"ttft_ms": 12.5}]}
    assert "12.5" in (tmp_path / "report.md").read_text()
    assert str(tmp_path) not in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_every_step_needs_only_steps_before_it(target, tmp_path):
    steps = plan.steps(target, tmp_path, plan.CHECKPOINT, Tools())
    names = [entry.name for entry in steps]
    assert len(set(names)) == len(names)
    for place, entry in enumerate(steps):
        assert set(entry.needs) <= set(names[:place]), entry.name
    assert names[0] == "image"


def test_transformers_vllm_and_kills_are_steps_and_fp8_gets_its_clips(tmp_path):
    steps = {
        entry.name: entry
        for entry in plan.steps("h100", tmp_path, plan.CHECKPOINT, Tools(), tmp_path / "clips")
    }
    assert steps["vllm-answers-and-speed"].serves == ("any", tmp_path / "vllm")
    [compared] = [words for words in steps["against-transformers"].commands if "compare" in words]
    assert [Path(word).name for word in compared if word.endswith(".json")] == [
        "transformers.json",
        "full.json",
        "transformers-full.json",
    ]
    assert {"transformers-answers", "answers-and-speed"} == set(steps["against-transformers"].needs)
    [built] = steps["engines"].commands
    assert built[built.index("--calibration") + 1] == str(tmp_path / "clips")
    assert steps["killed"].results == (tmp_path / "kills.json",)


def test_every_module_of_every_command_is_there(tmp_path):
    for entry in plan.steps("h100", tmp_path, plan.CHECKPOINT, Tools()):
        for words in entry.commands:
            if words[0] == "make":
                continue
            module = words[words.index("-m") + 1]
            path = REPOSITORY / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_a_dry_run_starts_nothing_and_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "perf.acceptance", "--target", "h100", "--folder", str(tmp_path / "a")]
    done = subprocess.run(
        [*command, "--dry-run"],
        cwd=REPOSITORY,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny-engines" in done.stdout
    assert "MISSING  GPU" in done.stdout
    assert not (tmp_path / "a").exists()


def test_room_for_every_set_of_engines_is_asked_for_before_the_first_is_built(tmp_path, monkeypatch, capsys):
    """`make engines` asks for 90 GB; a second set in BF16 and vLLM do not fit there."""
    sets = [
        sum(tool_commands.disk_bytes(Job(target, tmp_path, Tools(), Tools()), AUDIO_FLAMINGO_3).values())
        for target in (TARGETS["h100"], TARGETS["h100"].with_precision("bf16"))
    ]
    needed_gb = sum(sets) / 1e9 + IMAGE_GB + doctor_vllm.DISK_GB  # the checkpoint is in the last
    assert doctor.GPU_DISK_GB < needed_gb <= plan.DISK_GB
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=doctor.GPU_DISK_GB * 10**9))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        "sys.argv", ["acceptance", "--target", "h100", "--dry-run", "--folder", str(tmp_path)]
    )
    assert acceptance_main.main() == 0
    assert f"{plan.DISK_GB} GB are needed" in capsys.readouterr().out


def test_answers_are_compared_token_by_token():
    one = [
        {"file": name, "answer": name, "token_ids": tokens}
        for name, tokens in [("a", [1, 2]), ("b", [3, 4, 5])]
    ]
    other = [one[0], one[1] | {"answer": "else", "token_ids": [3, 9, 5]}]
    assert compare(one, one) == {"questions": 2, "same": 1.0, "parted": {}}
    found = compare(one, other)
    assert found["same"] == 0.5
    assert found["parted"]["b"]["same_tokens"] == 1
    with pytest.raises(ValueError, match="different questions"):
        compare(one, one[:1])


def test_an_option_that_the_release_has_not_is_named():
    listed = "\n".join(f"  --{name} X" for name in RECORDED["options"])
    assert image_checks.missing_options(listed, RECORDED["options"]) == []
    lacking = listed.replace("--max_seq_len", "--max_sequence")
    assert image_checks.missing_options(lacking, RECORDED["options"]) == ["max_seq_len"]


def test_the_image_is_examined_without_its_programs_too(tmp_path):
    found = image_checks.examine()
    assert set(found["programs"]) == set(image_checks.PROGRAMS)
    assert found["trtllm-build lacks"]  # there is none here


class FakeServer:
    """A process for each victim, and questions that end when theirs is killed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: str = "UNAVAILABLE: try again"):
        self.children = {name: subprocess.Popen(["sleep", "60"]) for name in ("audio_encoder", "preprocess")}
        monkeypatch.setattr(
            kills.observe, "processes", lambda pid: {child.pid: name for name, child in self.children.items()}
        )
        monkeypatch.setattr(kills, "_ask", self.ask)
        self.said = said

    def ask(self, url: str, said: list[str]) -> None:
        while all(child.poll() is None for child in self.children.values()):
            time.sleep(0.01)
        said.append(self.said)

    def close(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer(monkeypatch)
    yield server
    server.close()


def test_every_client_of_a_killed_process_is_told_and_the_server_answers_again(killed: FakeServer) -> None:
    answered = iter([False, False, True])
    found = kills.kill(Place("url", pid=1), "audio_encoder", lambda url: next(answered))
    assert killed.children["audio_encoder"].wait(5) == -signal.SIGKILL
    assert killed.children["preprocess"].poll() is None
    assert found["clients saw"] == ["UNAVAILABLE: try again"] * kills.CLIENTS
    assert found["answered again after s"] >= 0.5


def test_a_server_that_stays_away_fails_and_a_process_that_is_not_here_is_left_out(
    killed: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "BACK_S", 0.2)
    monkeypatch.setattr(kills, "answers", lambda url: False)
    monkeypatch.setattr(kills.kill, "__defaults__", (kills.answers,))
    first, second = kills.report(Place("url", pid=1), ("tritonserver", "preprocess"))
    assert first == {"victim": "tritonserver", "left out": "no such process here"}
    assert "no answer 0 s after the kill" in second["failed"]


def test_a_question_that_waits_for_ever_fails(killed: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "ENDED_S", 0.2)
    monkeypatch.setattr(kills, "_ask", lambda url, said: time.sleep(2))
    [found] = kills.report(Place("url", pid=1), ("preprocess",))
    assert "a question still waits" in found["failed"]
