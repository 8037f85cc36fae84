"""Limits are those of the checkpoint: how much it hears, how long it answers."""

from pathlib import Path

import pytest

from af3.contract import LONGEST_ANSWER_TOKENS, LONGEST_CLIP_SECONDS
from build_engines import __main__ as command
from build_engines import memory_plan
from build_engines.source import hub_checkpoint, reach
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from build_engines.targets import TARGETS, cpu
from tests.support.engines import random_checkpoint


def test_audio_flamingo_3_keeps_its_limits() -> None:
    limits = cpu.limits(open_checkpoint(str(random_checkpoint())))
    assert (limits.max_clip_seconds, limits.max_output_tokens) == (600, 1024)
    assert (limits.max_audio_tokens, limits.max_sequence_tokens) == (15_000, 32_024)


def test_audio_flamingo_next_hears_half_an_hour() -> None:
    limits = cpu.limits(open_checkpoint(str(random_checkpoint(family="next"))))
    assert (limits.max_clip_seconds, limits.max_output_tokens) == (1800, 4096)
    assert (limits.max_audio_tokens, limits.max_sequence_tokens) == (45_000, 45_000 + 16_000 + 4096)


def test_what_is_published_agrees_with_what_the_files_say() -> None:
    for family, name in (("af3", "nvidia/audio-flamingo-3-hf"), ("next", "nvidia/audio-flamingo-next-hf")):
        assert reach.of(open_checkpoint(str(random_checkpoint(family=family)))) == reach.published(name)


def test_no_sequence_is_longer_than_the_language_model_has_positions_for() -> None:
    limits = reach.published("nvidia/music-flamingo-2601-hf").limits(max_batch_size=1)
    assert (limits.max_clip_seconds, limits.max_output_tokens) == (1200, 2048)
    assert limits.max_sequence_tokens == 32_768


def test_no_model_of_the_family_exceeds_the_contracts_limits() -> None:
    assert max(known.clip_seconds for known in reach.PUBLISHED.values()) == LONGEST_CLIP_SECONDS
    assert max(known.answer_tokens for known in reach.PUBLISHED.values()) == LONGEST_ANSWER_TOKENS


def test_a_dry_run_for_a_cpu_tells_the_limits_and_downloads_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub_checkpoint, "snapshot_download", pytest.fail)
    monkeypatch.setattr(
        "sys.argv", ["build", "--checkpoint", "nvidia/audio-flamingo-next-hf", "--target", "cpu", "--dry-run"]
    )
    assert command.main() == 0
    told = capsys.readouterr().out
    assert "Noncommercial" in told
    assert "clips of 1800 s, 45000 audio tokens" in told
    assert "answers of 4096 tokens" in told


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("nvidia/audio-flamingo-3-hf", 32),
        ("nvidia/music-flamingo-2601-hf", 16),
        ("nvidia/audio-flamingo-next-hf", 10),
    ],
)
def test_longer_audio_leaves_room_for_fewer_requests_in_the_same_table(name: str, requests: int) -> None:
    before = TARGETS["h100"]
    after = before.hearing(reach.published(name))
    assert after.limits.max_batch_size == requests
    assert after.prompt_table_rows <= before.prompt_table_rows
    assert after.limits.max_output_tokens == reach.published(name).answer_tokens


def test_half_an_hour_fits_an_h100() -> None:
    memory = memory_plan.plan(
        TARGETS["h100"].hearing(reach.AUDIO_FLAMINGO_NEXT), memory_plan.AUDIO_FLAMINGO_3
    )
    memory_plan.require_fit(memory)
    assert memory.requests_at_once(1800) >= 8
    assert "30 min clips" in memory_plan.describe(memory)


def test_a_dry_run_for_an_h100_tells_the_plan_and_feeds_the_places_of_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub_checkpoint, "snapshot_download", pytest.fail)
    arguments = ["--target", "h100", "--dry-run", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["build", "--checkpoint", "nvidia/audio-flamingo-next-hf", *arguments])
    assert command.main() == 0
    told = capsys.readouterr().out
    assert "10 slots x 45000 rows" in told
    assert "window_index:[20]" in told
    assert "encoder_probe.py:many_placed_torch" in told
    monkeypatch.setattr("sys.argv", ["build", "--checkpoint", "nvidia/audio-flamingo-3-hf", *arguments])
    assert command.main() == 0
    told = capsys.readouterr().out
    assert "clips of 600 s" in told
    assert "window_index" not in told


def test_audio_flamingo_3_has_the_limits_that_the_targets_are_made_with() -> None:
    for target in TARGETS.values():
        assert target.hearing(reach.AUDIO_FLAMINGO_3).limits == target.limits


def test_less_audio_a_request_lets_more_run_together_up_to_what_the_checkpoint_hears() -> None:
    target = TARGETS["h100"].hearing(reach.AUDIO_FLAMINGO_NEXT, seconds=1200)
    assert (target.limits.max_clip_seconds, target.limits.max_batch_size) == (1200, 16)
    with pytest.raises(BuildError, match="1 to 1800 s"):
        TARGETS["h100"].hearing(reach.AUDIO_FLAMINGO_NEXT, seconds=1801)
