"""Limits are those of the checkpoint: how much it hears, how long it answers."""

import pytest

from af3.contract import LONGEST_ANSWER_TOKENS, LONGEST_CLIP_SECONDS
from build_engines import __main__ as command
from build_engines.source import checkpoint, reach
from build_engines.source.checkpoint import open_checkpoint
from build_engines.targets import cpu
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


def test_nothing_of_the_family_goes_past_what_the_contract_allows() -> None:
    assert max(known.clip_seconds for known in reach.PUBLISHED.values()) == LONGEST_CLIP_SECONDS
    assert max(known.answer_tokens for known in reach.PUBLISHED.values()) == LONGEST_ANSWER_TOKENS


def test_a_dry_run_for_a_cpu_tells_the_limits_and_downloads_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "snapshot_download", pytest.fail)
    monkeypatch.setattr(
        "sys.argv", ["build", "--checkpoint", "nvidia/audio-flamingo-next-hf", "--target", "cpu", "--dry-run"]
    )
    assert command.main() == 0
    told = capsys.readouterr().out
    assert "Noncommercial" in told
    assert "clips of 1800 s, 45000 audio tokens" in told
    assert "answers of 4096 tokens" in told
