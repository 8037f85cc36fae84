"""Keeps one Triton behind the door: started, probed stage by stage, replaced when it is dead or hangs.

Triton 2.51 and later do not restart a Python step whose process has died, and their health endpoint goes on to
say that all is well (server #8604): so the whole server is replaced, which also frees what the dead one held.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError

from serving.address import ServerCrashed, ServerError
from serving.door.door import Door
from serving.door.triton_errors import is_given_up
from serving.host.exit_watch import ExitWatch
from serving.host.patience import Patience, Signs, why_hung
from serving.host.probe import Finding, every_stage_answers, front_end_answers
from serving.host.triton import TRITON, Server

SECOND_LOOK_S = 2.0  # several heartbeats
LOST = "failed: Triton gave up a step that showed no life for a second, and may mix up answers"


class Supervisor:
    """Runs until an exception, such as KeyboardInterrupt, ends it. `say` takes one line for the operator.

    restarts: why each was needed, in order. The door's liveness turns false when no start has succeeded for
        `Patience.give_up`, and true again once one has.
    """

    def __init__(
        self, door: Door, start: Callable[[], Server], patience: Patience, say: Callable[[str], None] = print
    ):
        self._door = door
        self._start = start
        self._patience = patience
        self._say = say
        self._prober = ThreadPoolExecutor(thread_name_prefix="probe")
        self._probing: Future[Finding] | None = None
        self.restarts: list[str] = []

    def run(self, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called once. Raises ServerError when the first start fails, after a crash the second."""
        try:
            self._run(on_ready)
        finally:
            self._prober.shutdown(wait=False, cancel_futures=True)

    def _run(self, on_ready: Callable[[], None]) -> None:
        first, crashed = True, False
        failed_starts = 0
        ready_s = time.monotonic()  # when it last was
        while True:
            began_s = time.monotonic()
            try:
                with self._start() as server:
                    self._wait_until_ready(server)
                    failed_starts, self._door.admission.alive = 0, True
                    self._say_ready(time.monotonic() - began_s)
                    if first:
                        on_ready()
                        first = False
                    why = self._watch_or_drain(server)
                    ready_s = time.monotonic()
                    self._door.admission.ready = False
                    server.kill()  # a dead step would hold up an orderly end
            except (ServerError, OSError) as error:  # OSError: no file handles, no memory, no disk
                if first and (crashed or not isinstance(error, ServerCrashed)):
                    raise
                crashed = True
                failed_starts += 1
                self._door.admission.alive = time.monotonic() - ready_s < self._patience.give_up
                why = f"start failed: {error}"
            finally:
                self._door.admission.ready = False
                self._probing = None
            self._door.metrics.restarts.add(why.split(":")[0])
            self.restarts.append(why)
            # Only starts that fail are slowed down: a server that was ready is replaced at once, whoever broke it.
            pause_s = self._backoff_s(failed_starts)
            self._say(f"{why}; restarting {f'in {pause_s:g} s' if pause_s else 'at once'}")
            time.sleep(pause_s)

    def _backoff_s(self, failed_starts: int) -> float:
        if not failed_starts:
            return 0.0
        return min(self._patience.first_backoff * 2 ** (failed_starts - 1), self._patience.longest_backoff)

    def _say_ready(self, seconds: float) -> None:
        count = len(self.restarts)
        again = f" (restart {count}, after: {self.restarts[-1].splitlines()[0]})" if count else ""
        self._say(f"ready after {seconds:.1f} s{again}")

    def _wait_until_ready(self, server: Server) -> None:
        found = Finding("silent", "it was never asked")

        def ready() -> bool:
            nonlocal found
            found = self._probe(server)
            return found.health == "answers"

        try:
            server.wait_until(ready, self._patience.start)
        except ServerError as error:
            raise type(error)(f"{error}\nthe last probe found: {found.health}: {found.reason}") from None
        self._door.admission.lost_step = False
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
        answered_s = front_end_s = time.monotonic()
        with server.exit_watch() as processes:
            while True:
                ended = self._wait(processes, self._patience.probe_every)
                if ended is not None:
                    return self._epitaph(server, ended)
                if self._door.admission.lost_step:
                    return LOST
                found = self._probe(server)
                if is_given_up(found.reason):
                    return LOST
                # The second look: one refusal may be a slip, and a dead stage fails again at once.
                if found.health == "failed":
                    found = self._probe(server)
                now = time.monotonic()
                if found.health in ("answers", "busy"):
                    answered_s = front_end_s = now
                    continue
                if found.health == "failed":
                    return f"failed: a stage does not answer: {found.reason}"
                if front_end_answers(server.url, server.key, self._patience.probe_timeout):
                    front_end_s = time.monotonic()
                why = self._why_hung(server, answered_s, front_end_s)
                if why is not None:
                    return why

    def _why_hung(self, server: Server, answered_s: float, front_end_s: float) -> str | None:
        def look() -> str | None:
            now = time.monotonic()
            heard_s = max(self._door.admission.seen_at, answered_s)
            signs = Signs(now - answered_s, now - heard_s, now - front_end_s, server.pulses())
            return why_hung(signs, self._patience)

        if look() is None:
            return None
        # The whole machine may just have been paused, and the steps be about to beat again.
        time.sleep(SECOND_LOOK_S)
        return look()

    def _epitaph(self, server: Server, ended: str) -> str:
        """The sentence about a process that has ended."""
        # A step may be seen to end first when Triton takes it along.
        if ended == TRITON or server.exit_code is not None:
            return f"ended: {TRITON}, with code {server.exit_code}"
        return f"died: the process of {ended}"

    def _wait(self, processes: ExitWatch, seconds: float) -> str | None:
        """Wait, shorter when Triton has just failed an answer; the process that has ended, if one has."""
        admission = self._door.admission
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (admission.suspicious or admission.lost_step):
            ended = processes.wait(0.2)
            if ended is not None:
                return ended
        admission.suspicious = False
        return processes.wait(0)

    def _probe(self, server: Server) -> Finding:
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
            return Finding("silent", f"no answer within {self._patience.probe_timeout:g} s")
        except Exception as error:  # of the probe itself: it says nothing of the server
            found = Finding("silent", f"the probe failed: {error}")
        self._probing = None
        return found
