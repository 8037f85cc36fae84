"""Speech of many requests at a time, each in order: the logic of the `tts` model, without Triton.

Every response of the language model comes as one `Sink` with a text delta. The speech of the segments
that a delta completes leaves through its sink, from a thread of a small pool; a sink is finished when
nothing more will leave through it. A request's sinks are served one after another, so its blocks keep
their order. Of several requests the one whose listener will run dry first is served next, segment by segment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from af3.speech.pcm import shape
from af3.speech.segmenter import Ending, Segment, Segmenter
from af3.speech.voice import Pcm, Voice, VoiceFailed

log = logging.getLogger("af3")

PAUSE_S: dict[Ending, float] = {
    "clause": 0.06,
    "sentence": 0.15,
}  # before the next segment; both ends are trimmed of silence


@dataclass(frozen=True)
class SpeechBlock:
    """A piece of speech, at most 100 ms but for a pause, in the order it is to be played."""

    pcm: Pcm
    sample_rate: int
    source: str  # on a segment's first block the answer's text that it speaks, otherwise empty


class Sink(Protocol):
    """Where the speech of one response goes. `send` and `fail` come before `finish`, from any thread."""

    def cancelled(self) -> bool: ...
    def send(self, block: SpeechBlock) -> None: ...
    def fail(self, message: str) -> None: ...
    def finish(self) -> None: ...


class Voices(Protocol):
    """What opens voices: `af3.speech.catalogue.Catalogue`."""

    def voice(self, name: str | None, rate: float) -> Voice:
        """`name` None: the default. Raises VoiceFailed."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class SegmentReport:
    """What one segment cost. Seconds; `latency_s` from the text that completed it to its first block."""

    first_of_request: bool
    latency_s: float
    longest_gap_s: float  # between two blocks of the answer, the one before the segment included
    compute_s: float
    audio_s: float
    underrun: bool  # a block came after the speech before it had been played


class Observer(Protocol):
    """What is counted of all requests; called from any thread."""

    def segment(self, report: SegmentReport) -> None: ...
    def failed(self) -> None: ...
    def live(self, count: int) -> None:
        """So many requests hold state now."""
        ...


@dataclass(frozen=True)
class _Job:
    segments: list[Segment]
    sink: Sink
    arrived_s: float


@dataclass
class _Session:
    """One request. `stopped` is set by any thread, what follows it is touched by the speaking one alone."""

    voice: Voice
    touched_s: float
    segmenter: Segmenter = field(default_factory=Segmenter)
    jobs: deque[_Job] = field(default_factory=deque)
    complete: bool = False  # the whole answer has arrived
    stopped: bool = False
    unspoken: str = ""  # text of segments that the voice cannot pronounce
    ending: Ending | None = None  # of the segment before; None before the first
    last_block_s: float | None = None  # when it left
    played_until_s: float = 0.0  # when a client that plays at once will have heard all so far


class Speech:
    """Speaks the answers of all requests in flight with one synthesizer."""

    def __init__(
        self,
        voices: Voices,
        threads: int,
        idle_s: float,
        observer: Observer,
    ):
        """`idle_s`: a request that brings no text for so long is forgotten (its stream broke off)."""
        self._voices = voices
        self._idle_s = idle_s
        self._observer = observer
        self._sessions: dict[str, _Session] = {}
        self._ready: list[tuple[str, _Session]] = []  # have a job and no thread
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="speech")

    @property
    def live(self) -> int:
        """Requests whose state is held."""
        return len(self._sessions)

    def begin(self, request_id: str, voice: str | None, rate: float, sink: Sink) -> None:
        """Open a request, in place of what a broken stream left under the same id.

        `voice` None: the default. `sink` is told where there is no such voice; nothing is spoken then.
        """
        self.stop(request_id)
        now = time.monotonic()
        try:
            opened = _Session(self._voices.voice(voice, rate), now)
        except VoiceFailed as failure:
            self._observer.failed()
            sink.fail(str(failure))
            return
        with self._lock:
            self._sessions[request_id] = opened
            for idle in [key for key, held in self._sessions.items() if now - held.touched_s > self._idle_s]:
                self._sessions.pop(idle).stopped = True
            self._observer.live(self.live)

    def feed(self, request_id: str, delta: str, last: bool, sink: Sink) -> None:
        """Speak what `delta` completes through `sink`, with `last` all that is left. Does not wait for it.

        Without `begin`, after `stop` and after a failure there is no speech; a cancelled sink is a `stop`.
        """
        if sink.cancelled():
            self.stop(request_id)
        with self._lock:
            job = self._job(request_id, delta, last, sink)
        if job is None:
            sink.finish()

    def stop(self, request_id: str) -> None:
        """Say no more for this request: at most the block that is being made still leaves."""
        with self._lock:
            session = self._sessions.pop(request_id, None)
            if session is not None:
                session.stopped = True
                self._observer.live(self.live)

    def close(self) -> None:
        """Stop all requests, wait for the threads and close the synthesizer."""
        for request_id in list(self._sessions):
            self.stop(request_id)
        self._pool.shutdown()
        self._voices.close()

    def _job(self, request_id: str, delta: str, last: bool, sink: Sink) -> _Job | None:
        session = self._sessions.get(request_id)
        if session is None:
            return None
        session.touched_s = time.monotonic()
        session.complete = last
        segments = session.segmenter.push(delta) + (session.segmenter.flush() if last else [])
        if not segments:
            self._forget_if_done(request_id, session)
            return None
        job = _Job(segments, sink, session.touched_s)
        session.jobs.append(job)
        if len(session.jobs) == 1:
            self._get_ready(request_id, session)
        return job

    def _get_ready(self, request_id: str, session: _Session) -> None:
        self._ready.append((request_id, session))
        self._pool.submit(self._serve)

    def _serve(self) -> None:
        """One job of the most urgent session; one that has not been heard yet is."""
        with self._lock:
            place = min(range(len(self._ready)), key=lambda place: self._ready[place][1].played_until_s)
            request_id, session = self._ready.pop(place)
        job = session.jobs[0]
        try:
            for segment in job.segments:
                self._say(session, segment, job)
        except VoiceFailed as failure:
            log.warning("a segment could not be spoken: %s", failure, exc_info=failure.__cause__)
            self._fail(request_id, job.sink, str(failure))
        except Exception:
            log.exception("a segment could not be spoken")
            self._fail(request_id, job.sink, "internal error while speaking")
        with self._lock:
            session.jobs.popleft()
            if session.jobs:
                self._get_ready(request_id, session)
            self._forget_if_done(request_id, session)
        job.sink.finish()

    def _fail(self, request_id: str, sink: Sink, message: str) -> None:
        self.stop(request_id)
        self._observer.failed()
        sink.fail(message)

    def _forget_if_done(self, request_id: str, session: _Session) -> None:
        if session.complete and not session.jobs and self._sessions.get(request_id) is session:
            del self._sessions[request_id]
            self._observer.live(self.live)

    def _say(self, session: _Session, segment: Segment, job: _Job) -> None:
        source = session.unspoken + segment.source
        text = session.voice.speakable(segment.speech)
        if session.stopped or not any(character.isalnum() for character in text):
            session.unspoken = source
            return
        pause_s = 0.0 if session.ending is None else PAUSE_S[session.ending]
        hz = session.voice.sample_rate
        meter = _Meter(session, job.arrived_s)
        with closing(session.voice.speak(text)) as raw:
            for pcm in shape(raw, hz, pause_s):
                if session.stopped or job.sink.cancelled():
                    session.stopped = True
                    return
                job.sink.send(SpeechBlock(pcm, hz, source))
                meter.sent(len(pcm) / hz)
                source = ""
        session.unspoken = source
        if meter.audio_s:
            self._observer.segment(meter.report())
            session.ending = segment.ending


class _Meter:
    """Times one segment."""

    def __init__(self, session: _Session, arrived_s: float):
        self._session = session
        self._arrived_s = arrived_s
        self._started_s = time.monotonic()
        self._first_s = 0.0
        self._longest_gap_s = 0.0
        self._underrun = False
        self.audio_s = 0.0

    def sent(self, audio_s: float) -> None:
        """A block of `audio_s` seconds has just left."""
        now = time.monotonic()
        if not self.audio_s:
            self._first_s = now
            self._session.played_until_s = self._session.played_until_s or now
        if self._session.last_block_s is not None:
            self._longest_gap_s = max(self._longest_gap_s, now - self._session.last_block_s)
        self._session.last_block_s = now
        self._underrun |= now > self._session.played_until_s
        self._session.played_until_s = max(now, self._session.played_until_s) + audio_s
        self.audio_s += audio_s

    def report(self) -> SegmentReport:
        return SegmentReport(
            first_of_request=self._session.ending is None,
            latency_s=self._first_s - self._arrived_s,
            longest_gap_s=self._longest_gap_s,
            compute_s=time.monotonic() - self._started_s,
            audio_s=self.audio_s,
            underrun=self._underrun,
        )
