"""When the supervisor replaces a server, when it does not, how long it waits, and what it says.

Long because its cases share one clock and one stand-in server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from serving.address import ServerCrashed, ServerError
from serving.heartbeat import Pulse
from serving.host import supervisor as supervised
from serving.host.patience import Patience, Signs, why_hung
from serving.host.probe import Finding
from serving.host.supervisor import Supervisor

PATIENCE = Patience(start=100.0)
WELL, BUSY, SILENT = Finding("answers"), Finding("busy"), Finding("silent", "no answer")
FAILED = Finding("failed", "INTERNAL: no such tensor")
GIVEN_UP = Finding("failed", "in ensemble 'audio_flamingo', Stub process 'llm_0_0' is not healthy.")
IDLE = Pulse("llm", 0.1, 0.0, False)


class World:
    """A clock, and servers that live as the test says. Time passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        self.slept: list[float] = []
        self.counted: list[str] = []
        self.starts = 0
        self.findings: Iterator[Finding] = iter(())
        self.front_end = True
        self.signs: Callable[[], Sequence[Pulse]] = lambda: [IDLE]
        self.die_at: Callable[[], str | None] = lambda: None
        self.start_error: Callable[[int], Exception | None] = lambda start: None
        self.door: Any = SimpleNamespace(
            admission=SimpleNamespace(
                ready=False, alive=True, suspicious=False, lost_step=False, seen_at=0.0
            ),
            metrics=SimpleNamespace(restarts=SimpleNamespace(add=self.counted.append)),
            drain=lambda seconds: 0,
        )
        self.supervisor = Supervisor(self.door, self.start, PATIENCE, self.said.append)

    def start(self) -> World:
        self.starts += 1
        error = self.start_error(self.starts)
        if error is not None:
            raise error
        return self

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    # The parts of a server that the supervisor uses.
    url, key, exit_code = "url", "key", None

    def __enter__(self) -> World:
        return self

    def __exit__(self, *words: object) -> None:
        pass

    def kill(self) -> None:
        pass

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        if not ready():
            raise ServerError(f"not ready after {timeout_s:.0f} s; see log")

    def exit_watch(self) -> Any:
        world = self

        class Watch:
            def __enter__(self) -> Watch:
                return self

            def __exit__(self, *words: object) -> None:
                pass

            def wait(self, seconds: float) -> str | None:
                world.now += seconds
                return world.die_at()

        return Watch()

    def pulses(self) -> Sequence[Pulse]:
        return self.signs()

    def probe(self) -> Finding:
        """The next finding; the operator's Ctrl-C when there is none left."""
        found = next(self.findings, None)
        if found is None:
            raise KeyboardInterrupt
        if found.health == "silent":
            self.now += PATIENCE.probe_timeout
        return found

    def run(self, *findings: Finding) -> str:
        """The supervisor's output until its probes had no more findings."""
        self.findings = iter(findings)
        with pytest.raises(KeyboardInterrupt):
            self.supervisor.run(lambda: None)
        return "\n".join(self.said)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    clock = SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep)
    monkeypatch.setattr(supervised, "time", clock)
    monkeypatch.setattr(Supervisor, "_probe", lambda self, server: made.probe())
    monkeypatch.setattr(supervised, "front_end_answers", lambda *words: made.front_end)
    return made


def working(step: str = "audio_encoder", still_s: float = 1.0, silent_s: float = 0.1) -> Pulse:
    return Pulse(step, silent_s, still_s, True)


# Slow is not hung


def test_an_encoder_of_twenty_seconds_a_window_is_not_replaced(world: World) -> None:
    world.signs = lambda: [working(still_s=world.now % 20)]  # moves on every 20 s, for half an hour
    world.run(WELL, *[SILENT] * 120)
    assert world.starts == 1 and world.supervisor.restarts == []


def test_uploads_that_keep_every_preprocess_busy_are_no_hang(world: World) -> None:
    world.signs = lambda: [working("preprocess", 30.0), working("preprocess", 50.0), IDLE]
    world.run(WELL, *[SILENT] * 60, WELL)
    assert world.starts == 1


def test_a_full_server_is_no_hang(world: World) -> None:
    world.run(WELL, *[BUSY] * 60)
    assert world.starts == 1


def test_a_slow_answer_of_a_backend_without_heartbeats_is_no_hang(world: World) -> None:
    """TensorRT-LLM in C++: its tokens are its sign of life."""
    world.signs = lambda: [Pulse("preprocess", 0.1, 0.0, False)]

    def probe() -> Finding:
        world.door.admission.seen_at = world.now
        return World.probe(world)

    world.probe = probe  # type: ignore[method-assign]
    world.run(WELL, *[SILENT] * 15)  # 225 s
    assert world.starts == 1


@pytest.mark.parametrize(
    ("pulse", "why"),
    [
        (working("audio_encoder", still_s=121.0), "the work of audio_encoder has not moved on for 121 s"),
        (Pulse("llm", 16.0, 0.0, False), "llm has shown no sign of life for 16 s"),
        (working("llm", silent_s=16.0), "llm has shown no sign of life for 16 s"),
    ],
)
def test_a_hung_step_is_replaced(world: World, pulse: Pulse, why: str) -> None:
    world.signs = lambda: [IDLE, pulse] if world.starts == 1 else [IDLE]
    said = world.run(WELL, SILENT, WELL)
    assert world.starts == 2
    assert f"hung: {why}; restarting at once" in said
    assert world.counted == ["hung"]


def test_an_answer_that_is_lost_with_nobody_at_work_is_a_hang(world: World) -> None:
    said = world.run(WELL, SILENT, SILENT, WELL)
    assert world.starts == 2
    assert "hung: no answer to a probe for" in said and "no step is at work" in said


def test_silence_shorter_than_the_stall_is_no_hang(world: World) -> None:
    world.run(WELL, SILENT, WELL, SILENT, WELL, SILENT, WELL)
    assert world.starts == 1


def test_a_triton_that_does_not_answer_is_replaced_though_its_steps_are_at_work(world: World) -> None:
    world.signs = lambda: [working()]
    world.front_end = False
    said = world.run(WELL, SILENT, SILENT, WELL)
    assert "hung: tritonserver has not answered a health call" in said


def test_a_paused_machine_is_probed_again_before_a_restart(world: World) -> None:
    looks = iter([[Pulse("llm", 500.0, 0.0, False)]])
    world.signs = lambda: next(looks, [IDLE])
    world.run(WELL, SILENT, WELL)
    assert world.starts == 1
    assert world.slept == [supervised.SECOND_LOOK_S]


def test_answers_to_others_end_no_later_than_hang_when_the_probe_is_lost() -> None:
    signs = Signs(probe_s=301.0, response_s=0.0, front_end_s=0.0, pulses=[IDLE])
    assert "no answer to a probe" in str(why_hung(signs, PATIENCE))
    assert why_hung(Signs(299.0, 0.0, 0.0, [IDLE]), PATIENCE) is None


# Failures, and the second look


def test_one_failed_probe_may_be_a_slip(world: World) -> None:
    world.run(WELL, FAILED, WELL, WELL)
    assert world.starts == 1


def test_two_failed_probes_replace_the_server_and_say_why(world: World) -> None:
    said = world.run(WELL, FAILED, FAILED, WELL)
    assert world.starts == 2
    assert "failed: a stage does not answer: INTERNAL: no such tensor" in said
    assert world.counted == ["failed"]


def test_a_step_that_died_is_named(world: World) -> None:
    deaths = iter([None, "llm"])
    world.die_at = lambda: next(deaths, None)
    said = world.run(WELL, WELL)
    assert "died: the process of llm; restarting at once" in said
    assert world.counted == ["died"]


def test_a_failed_answer_of_a_client_makes_the_supervisor_probe_at_once(world: World) -> None:
    world.door.admission.suspicious = True
    before = world.now
    world.run(WELL, WELL)
    assert not world.door.admission.suspicious
    assert world.now - before < 2 * PATIENCE.probe_every


def test_a_step_that_triton_gave_up_is_no_slip(world: World) -> None:
    """It may live and answer, but from then on for the wrong requests."""
    said = world.run(WELL, GIVEN_UP, WELL, WELL)
    assert world.starts == 2
    assert "failed: Triton gave up a step that showed no life for a second" in said


def test_a_client_that_saw_a_step_given_up_has_the_server_replaced_without_a_probe(world: World) -> None:
    def wait() -> None:
        world.door.admission.lost_step = world.starts == 1

    world.die_at = wait
    before = world.now
    world.run(WELL, WELL)
    assert world.starts == 2
    assert not world.door.admission.lost_step
    assert world.now - before < 2 * PATIENCE.probe_every


# How long it waits


def test_a_server_that_was_ready_is_replaced_at_once_however_often(world: World) -> None:
    world.run(*[WELL, FAILED, FAILED] * 6)
    assert world.starts == 7
    assert world.slept == [0.0] * 6


def test_starts_that_fail_are_tried_ever_more_slowly_up_to_a_bound(world: World) -> None:
    fails = set(range(2, 12))
    world.start_error = lambda start: ServerError("no engines") if start in fails else None
    said = world.run(WELL, FAILED, FAILED, WELL, FAILED, FAILED)
    assert world.slept == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 0.0]
    assert "start failed: no engines; restarting in 4 s" in said
    assert world.counted == ["failed", *["start failed"] * 10, "failed"]


def test_it_is_not_alive_while_the_server_cannot_be_started(world: World) -> None:
    alive: list[bool] = []

    def start_error(start: int) -> Exception | None:
        alive.append(world.door.admission.alive)
        return ServerError("no engines") if 2 <= start < 14 else None

    world.start_error = start_error
    world.run(WELL, FAILED, FAILED, WELL)
    assert alive[:8] == [True] * 8 and alive[-1] is False
    assert world.door.admission.alive


def test_it_remembers_why_and_says_so_when_it_is_ready_again(world: World) -> None:
    said = world.run(WELL, FAILED, FAILED, WELL)
    assert world.supervisor.restarts == ["failed: a stage does not answer: INTERNAL: no such tensor"]
    assert "(restart 1, after: failed: a stage does not answer" in said


# The first start


@pytest.mark.parametrize(("error", "starts"), [(ServerError, 1), (ServerCrashed, 2), (OSError, 1)])
def test_a_first_start_is_tried_again_after_a_crash_and_only_then(
    world: World, error: type[Exception], starts: int
) -> None:
    world.start_error = lambda start: error("tritonserver ended with code -6")
    with pytest.raises(error):
        world.supervisor.run(on_ready=lambda: None)
    assert world.starts == starts
    assert len(world.counted) == starts - 1


def test_a_start_that_fails_says_what_the_probe_found(world: World) -> None:
    world.findings = iter([FAILED])
    with pytest.raises(ServerError, match="the last probe found: failed: INTERNAL: no such tensor"):
        world.supervisor.run(lambda: None)


def test_no_file_handle_left_does_not_end_the_launcher(world: World) -> None:
    world.start_error = lambda start: OSError(24, "Too many open files") if start in (2, 3) else None
    said = world.run(WELL, FAILED, FAILED, WELL)
    assert world.starts == 4
    assert "Too many open files; restarting in 2 s" in said


def test_it_is_ready_only_while_the_server_is(world: World) -> None:
    ready: list[bool] = []
    world.start_error = lambda start: ready.append(world.door.admission.ready)
    world.run(WELL, FAILED, FAILED, WELL)
    assert ready == [False, False] and not world.door.admission.ready
