"""Raw figures → the report; loads → perf_analyzer's arguments; the input file of a load."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.decoding import decode
from af3.manifest import Manifest
from perf import analyzer, endless, plan, profile, report, traffic
from perf.analyzer import Load
from tests.support.engines import BuiltEngines


def cell(group: str, name: str, first_token_s: float) -> dict[str, Any]:
    texts = ((first_token_s, 1), (first_token_s + 0.1, 2))
    figures = profile.figures([profile.Request("a", 0.0, texts, (), True)], {"a": 5.0})
    stage = {"executions": 2, "queue_ms": 1.0, "compute_ms": 2.0, "processor_s": 0.5}
    return {
        "group": group,
        "load": {"name": name},
        "figures": figures.as_json(),
        "error": "",
        "stages": {"llm": stage},
        "memory_bytes": 100 << 20,
        "load_average": 0.5,
    }


def raw() -> dict[str, Any]:
    lost = cell("mixed", "2 to 30 s", 1) | {"figures": None, "error": "perf_analyzer ended with code 99"}
    ours = {
        "requests_per_s": 30.0,
        "first_token_s": {"p50": 0.05},
        "end_to_end_s": {"p50": 0.1},
    }
    theirs = {"audio_s": 5.0, "tokens": 32, "requests_per_s": 5.0, "first_token_s": 0.2, "end_to_end_s": 0.3}
    return {
        "machine": {
            "target": "cpu",
            "checkpoint": "tiny",
            "precision": {"llm": "fp32"},
            "cores": 2,
            "processor": "",
            "platform": "Linux",
        },
        "duration_s": 60.0,
        "ready_s": 4.0,
        "memory_at_rest_bytes": 300 << 20,
        "memory_after_bytes": 400 << 20,
        "cells": [cell("concurrency", "1 at once", 0.2), cell("concurrency", "2 at once", 0.3), lost],
        "compared": [
            {
                "clients_8": ours,
                "clients_1": ours,
                "generate_one_by_one": theirs,
                "generate_batched": theirs,
            },
            {
                "clients_8": ours | {"requests_per_s": 20.0},
                "clients_1": ours,
                "generate_one_by_one": theirs,
                "generate_batched": theirs,
            },
        ],
    }


def test_a_report_has_every_load_and_the_reason_of_one_that_failed(tmp_path: Path) -> None:
    report.write(raw(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| 1 at once | 1 | 0 |" in text
    assert "200.0 / 200.0 / 200.0 / 200.0" in text
    assert "perf_analyzer ended with code 99" in text
    assert (tmp_path / "concurrency.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    report.write(raw(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.count("<table>") == page.count("</table>") == 6


def test_ratios_say_how_many_times_better_with_their_spread() -> None:
    found = dict(report.ratios(raw()["compared"]))
    assert found["requests/s, 8 clients : `generate()` one by one"] == [6.0, 4.0]
    assert found["first token, `generate()` alone : 8 clients"] == pytest.approx([4.0, 4.0])
    assert "| 5.0× | 4.0–6.0 |" in report.markdown(raw())


def test_arrival_rates_are_parts_of_the_capacity_and_poisson() -> None:
    wanted = plan.plan("cpu", "full")
    loads = plan.rate_loads(wanted, 20.0)
    assert [load.rate for load in loads] == [20 * factor for factor in wanted.load_factors]
    words = " ".join(analyzer.command(loads[0], "host:1"))
    assert "--request-rate-range 5.000 --request-distribution poisson" in words
    assert "--concurrency-range" not in words


@pytest.mark.parametrize("target", ["cpu", "h100"])
def test_a_full_plan_varies_what_it_should(target: str) -> None:
    groups = plan.plan(target, "full").groups
    assert set(groups) == {
        "concurrency",
        "audio length",
        "output length",
        "speech",
        "mixed",
        "same clip again",
    }
    assert [load.lengths_s for load in groups["audio length"]] == [(2,), (10,), (30,), (120,), (600,)]


def test_a_missing_perf_analyzer_is_sought_in_the_sdk_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyzer.install, "PERF_ANALYZER", tmp_path / "none")
    monkeypatch.setattr(analyzer.shutil, "which", lambda name: "/bin/docker" if name == "docker" else None)
    words = analyzer.program(tmp_path)
    assert words[:2] == ["/bin/docker", "run"]
    assert analyzer.SDK_IMAGE in words and f"--volume={tmp_path}:{tmp_path}" in words
    monkeypatch.setattr(analyzer.shutil, "which", lambda name: None)
    with pytest.raises(analyzer.AnalyzerError, match="make setup"):
        analyzer.program(tmp_path)


def test_a_perf_analyzer_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(analyzer.AnalyzerError, match="code 3: no such model"):
        analyzer._run(["sh", "-c", "echo no such model; exit 3"], tmp_path)


def test_no_two_clips_of_a_load_are_alike_and_all_have_their_length(tmp_path: Path) -> None:
    made = traffic.rows((2.0, 31.0), 4)
    assert len({row.file for row in made}) == len({row.prompt for row in made}) == 4
    assert [len(decode(row.file, "clip")) / SAMPLE_RATE for row in made] == [2, 31, 2, 31]
    traffic.write(made, tmp_path / "inputs.json")
    first = json.loads((tmp_path / "inputs.json").read_text())["data"][0]
    assert base64.b64decode(first["audio"]["content"]["b64"])[4:] == made[0].file
    assert Load("x", 4, (2.0,), 8, concurrency=1).distinct is None


def test_endless_engines_differ_in_the_end_token_alone(engines: BuiltEngines, tmp_path: Path) -> None:
    endless.link(engines.engines, tmp_path)
    made, real = Manifest.read(tmp_path / "engines" / "cpu"), Manifest.read(engines.engines)
    assert made.model.stop_token_ids == (real.model.vocab_size - 1,)
    assert made.model_copy(update={"model": real.model}) == real
    assert (tmp_path / "engines" / "cpu" / "llm").resolve() == (engines.engines / "llm").resolve()
