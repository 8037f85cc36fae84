"""The command that measures a server's speech, and where a barge-in begins."""

import numpy as np
import pytest

from perf import barge_in, speech
from serving.address import Ports, claim

FRAME = 512


def test_without_a_server_it_says_what_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = claim(Ports(0, 0, 0), "127.0.0.1").grpc
    monkeypatch.setattr(
        "sys.argv", ["speech", "--url", f"127.0.0.1:{port}", "--answers", "1", "--streams", "1"]
    )
    assert speech.main() == 1
    assert capsys.readouterr().err.startswith(f"UNAVAILABLE: no server at 127.0.0.1:{port}")


@pytest.mark.parametrize("late", [0, 1, 511])
def test_the_voice_begins_after_the_quiet_wherever_in_a_frame_that_is(late: int) -> None:
    quiet = barge_in.ROOM_FRAMES * FRAME + late
    pcm = barge_in._room_and_voice(quiet)
    assert len(pcm) % FRAME == 0
    assert np.argmax(np.abs(pcm) > barge_in.AUDIBLE) == quiet
