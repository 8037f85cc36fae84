"""Keeps one Triton behind the door: started, probed stage by stage, replaced when it is dead or hangs.

Triton 2.51 and later do not restart a Python step whose process has died, and their health endpoint goes on to
say that all is well (server #8604): so the whole server is replaced, which also frees what the dead one held.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass

from serving.address import ServerCrashed, ServerError
from serving.door.door import Door
from serving.host.probe import Health, every_stage_answers
from serving.host.triton import Server


@dataclass(frozen=True)
class Patience:
    """Seconds. `probe_timeout`: for one probe; `stall`: without a word from Triton while a probe is silent, and
    `hang`: of silence while other answers go on (a probe waits in the same queues as they do); `start`: until
    ready; `calm`: of good health after which the next restart is the first again; `drain`: for
    answers in flight when the server is told to stop.
    """

    start: float
    probe_every: float = 5.0
    probe_timeout: float = 10.0
    stall: float = 30.0
    hang: float = 300.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    calm: float = 300.0
    drain: float = 20.0


class Supervisor:
    """Runs until an exception, such as KeyboardInterrupt, ends it. `say` takes one line for the operator."""

    def __init__(
        self, door: Door, start: Callable[[], Server], patience: Patience, say: Callable[[str], None] = print
    ):
        self._door = door
        self._start = start
        self._patience = patience
        self._say = say
        self._prober = ThreadPoolExecutor(thread_name_prefix="probe")
        self._probing: Future[Health] | None = None

    def run(self, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called once. Raises ServerError when the first start fails, after a crash the second."""
        backoff_s = self._patience.first_backoff
        first, crashed = True, False
        while True:
            began_s = time.monotonic()
            try:
                with self._start() as server:
                    self._wait_until_ready(server)
                    self._say(f"ready after {time.monotonic() - began_s:.1f} s")
                    if first:
                        on_ready()
                        first = False
                    ready_s = time.monotonic()
                    why = self._watch_or_drain(server)
                    self._door.admission.ready = False
                    server.kill()  # a dead step would hold up an orderly end
                    if time.monotonic() - ready_s > self._patience.calm:
                        backoff_s = self._patience.first_backoff
            except ServerError as error:
                if first and (crashed or not isinstance(error, ServerCrashed)):
                    raise
                crashed = True
                why = f"start failed: {error}"
            finally:
                self._door.admission.ready = False
                self._probing = None
            self._door.metrics.restarts.add(why.split(":")[0])
            self._say(f"{why}; restarting in {backoff_s:g} s")
            time.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._patience.longest_backoff)

    def _wait_until_ready(self, server: Server) -> None:
        server.wait_until(lambda: self._probe(server) == "answers", self._patience.start)
        self._door.admission.ready = True

    def _watch_or_drain(self, server: Server) -> str:
        try:
            return self._watch(server)
        except KeyboardInterrupt:
            left = self._door.drain(self._patience.drain)
            self._say("all answers were complete" if not left else f"{left} answers were ended with an error")
            raise

    def _watch(self, server: Server) -> str:
        """Until the server is not fit to go on; why."""
        answered_s = time.monotonic()
        steps = server.steps()
        while True:
            if not self._lives_on(server, steps, self._patience.probe_every):
                code = server.exit_code
                return (
                    "died: the process of a step"
                    if code is None
                    else f"ended: tritonserver, with code {code}"
                )
            found = self._probe(server)
            now = time.monotonic()
            if found in ("answers", "busy"):
                answered_s = now
                continue
            # The second look: one refusal may be a slip, and a dead stage fails again at once.
            if found == "failed" and self._probe(server) == "failed":
                return "failed: a stage does not answer"
            silent_s = now - answered_s
            unheard_s = now - max(self._door.admission.seen_at, answered_s)
            if unheard_s > self._patience.stall or silent_s > self._patience.hang:
                return f"hung: no answer for {silent_s:.0f} s"

    def _lives_on(self, server: Server, steps: frozenset[int], seconds: float) -> bool:
        """Wait, shorter when Triton has just failed an answer; False as soon as a process of it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._door.admission.suspicious:
            if server.exit_code is not None or not steps <= server.steps():
                return False
            time.sleep(0.2)
        self._door.admission.suspicious = False
        return server.exit_code is None and steps <= server.steps()

    def _probe(self, server: Server) -> Health:
        """What the probe found. One that takes longer is waited for again next time, never broken off: a stream
        that Triton 2.51 is writing, broken off, can block its threads or bring it down.
        """
        if self._probing is None:
            self._probing = self._prober.submit(
                every_stage_answers, server.url, server.key, self._patience.hang
            )
        try:
            found = self._probing.result(self._patience.probe_timeout)
        except TimeoutError:
            return "silent"
        self._probing = None
        return found
