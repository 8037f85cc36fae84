"""The supervisor's time limits, and the rules by which it takes silence for a hang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.heartbeat import Pulse


@dataclass(frozen=True)
class Patience:
    """Seconds.

    start: until a server that was started is ready.
    probe_every, probe_timeout: between two probes; for one, before other signs of life are asked for.
    silence: longest time without a heartbeat of a step.
    still: longest time in which the work of a step does not move on: one window encoded, one turn of the LLM.
    stall: longest time without an answer of Triton while no step is at work.
    hang: longest time without an answer to a probe while other answers go on, and no step is at work.
    first_backoff, longest_backoff: before the next start after one that failed, doubled each time.
    give_up: of failed starts, after which the launcher is not alive (it goes on trying).
    drain: for answers in flight when the server is told to stop.
    """

    start: float
    probe_every: float = 5.0
    probe_timeout: float = 10.0
    silence: float = 15.0
    still: float = 120.0
    stall: float = 30.0
    hang: float = 300.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    give_up: float = 300.0
    drain: float = 20.0


@dataclass(frozen=True)
class Signs:
    """Signs of life of a server that does not answer a probe: seconds since each was last seen."""

    probe_s: float  # an answer to a probe
    response_s: float  # a response to any client
    front_end_s: float  # Triton's own health call, which waits in no queue
    pulses: Sequence[Pulse]


def why_hung(signs: Signs, patience: Patience) -> str | None:
    """Why the server must be replaced; None while it may only be slow.

    A probe waits behind everything else that was asked: a long encode, many uploads. As long as the steps run and
    their work moves on, that is no hang, however long it takes.
    """
    for pulse in signs.pulses:
        if pulse.silent_s > patience.silence:
            return f"hung: {pulse.step} has shown no sign of life for {pulse.silent_s:.0f} s"
        if pulse.still_s > patience.still:
            return f"hung: the work of {pulse.step} has not moved on for {pulse.still_s:.0f} s"
    if signs.front_end_s > patience.stall:
        return f"hung: tritonserver has not answered a health call for {signs.front_end_s:.0f} s"
    if any(pulse.working for pulse in signs.pulses):
        return None
    if min(signs.probe_s, signs.response_s) > patience.stall or signs.probe_s > patience.hang:
        return f"hung: no answer to a probe for {signs.probe_s:.0f} s, and no step is at work"
    return None
