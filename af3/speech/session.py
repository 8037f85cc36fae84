"""Speaks many answers at once, each in order: the logic of the `tts` model, without Triton.

Each response of the language model brings a text delta and a `Sink`. A small thread pool sends the speech of the
segments that the delta completes through that sink, and finishes the sink once nothing more can leave through it. A
request's sinks are served one after another, so its blocks stay in order. The request whose listener will run out of
audio first goes next, one job at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from af3.speech.keep_up import PATIENCE_S, KeepUp, Resampled
from af3.speech.meter import Meter, Playback
from af3.speech.pcm import shape
from af3.speech.segmenter import COMPUTED, Ending, Segment, Segmenter
from af3.speech.speech_outputs import Observer, Sink, SpeechBlock
from af3.speech.voice import Voice, VoiceFailed
from af3.stall import Clock, StallWatch

if TYPE_CHECKING:
    from af3.speech.catalogue import Catalogue  # loads every engine

log = logging.getLogger("af3")

PAUSE_S: dict[Ending, float] = {
    "clause": 0.06,
    "sentence": 0.15,
}  # before the next segment; both ends are trimmed of silence
# Speak the phrase so far after this long without new text; with the voice's own delay it is heard within 0.3 s.
STALL_S = 0.2


@dataclass
class _Outlet:
    """A sink and what keeps it open."""

    sink: Sink
    jobs: int = 0
    newest: bool = True  # a stalled phrase is spoken through the newest sink

    @property
    def done(self) -> bool:
        return not self.newest and not self.jobs


@dataclass(frozen=True)
class _Job:
    segments: list[Segment]
    outlet: _Outlet
    arrived_s: float


@dataclass
class _Session:
    """One request. Any thread may set `stopped`; only the speaking thread touches the fields after it."""

    voice: Voice
    rate: float
    touched_s: float
    segmenter: Segmenter
    newest: _Outlet | None = None  # until the next text, or until STALL_S without text
    jobs: deque[_Job] = field(default_factory=deque)
    complete: bool = False  # the whole answer has arrived
    stopped: bool = False
    unspoken: str = ""  # text of segments that the voice cannot pronounce
    ending: Ending | None = None  # of the segment before; None before the first
    playback: Playback = field(default_factory=Playback)


class Speech:
    """Speaks the answers of all requests in flight."""

    def __init__(
        self,
        voices: Catalogue,
        threads: int,
        idle_s: float,
        observer: Observer,
        clock: Clock | None = None,
        fallback: str | None = None,
    ):
        """idle_s: drop a request without text for this long (its stream broke off). clock: measures STALL_S.
        fallback: the voice that takes over when an answer's own cannot keep up.
        """
        self._fallback = fallback
        self._keep_up = KeepUp()
        self.voices = voices
        self._idle_s = idle_s
        self._observer = observer
        self._sessions: dict[str, _Session] = {}
        self._ready: list[tuple[str, _Session]] = []  # sessions with a job that wait for a thread
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="speech")
        self._watch = StallWatch(STALL_S, self._stalled, clock or Clock(), "speech-stall")

    @property
    def live(self) -> int:
        """Number of requests that hold state."""
        return len(self._sessions)

    def begin(self, request_id: str, voice: str | None, rate: float, sink: Sink) -> None:
        """Open a request; replaces what a broken stream left under the same id.

        voice: None for the default. If the voice failed to load, `sink` gets the error and nothing is spoken.
        """
        self.stop(request_id)
        now = time.monotonic()
        try:
            spoken_by = self.voices.voice(voice, rate)
            opened = _Session(spoken_by, rate, now, Segmenter(spoken_by.pace))
        except VoiceFailed as failure:
            self._observer.failed()
            sink.fail(str(failure))
            return
        with self._lock:
            self._sessions[request_id] = opened
            idle = [key for key, held in self._sessions.items() if now - held.touched_s > self._idle_s]
            self._observer.live(self.live)
        for key in idle:
            self.stop(key)

    def feed(self, request_id: str, delta: str, last: bool, sink: Sink) -> None:
        """Queue the segments that `delta` completes, or with `last` all that is left, to be sent through `sink`.

        `sink` stays open until they are spoken and the next delta arrives. If none arrives for STALL_S, the phrase so
        far is spoken through it too. A request that was never begun, was stopped or has failed is silent. A cancelled
        sink stops the request.
        """
        if sink.cancelled():
            self.stop(request_id)
        outlet = _Outlet(sink, newest=not last)
        with self._lock:
            session = self._sessions.get(request_id)
            if session is None:
                before, outlet.newest = None, False
            else:
                before, session.newest = session.newest, None if last else outlet
                session.touched_s = time.monotonic()
                session.complete = last
                segments = session.segmenter.push(delta) + (session.segmenter.flush() if last else [])
                self._speak(request_id, session, segments, outlet)
                if last:
                    self._watch.forget(request_id)
                else:
                    self._watch.touch(request_id)
            nothing_to_say = outlet.done
        self._close(before)
        if nothing_to_say:
            sink.finish()

    def _stalled(self, request_id: str) -> None:
        """No text for STALL_S: speak the phrase so far through the newest sink, then finish that sink."""
        with self._lock:
            session = self._sessions.get(request_id)
            if session is None or session.newest is None:
                return
            outlet, session.newest = session.newest, None
            self._speak(request_id, session, session.segmenter.stalled(), outlet)
        self._close(outlet)

    def stop(self, request_id: str) -> None:
        """Stop speaking this request; at most the block in progress is still sent."""
        with self._lock:
            session = self._sessions.pop(request_id, None)
            if session is None:
                return
            session.stopped = True
            session.voice.interrupt()
            newest, session.newest = session.newest, None
            self._observer.live(self.live)
        self._watch.forget(request_id)
        self._close(newest)

    def close(self) -> None:
        """Stop all requests, wait for the threads and close the synthesizer."""
        for request_id in list(self._sessions):
            self.stop(request_id)
        self._watch.close()
        self._pool.shutdown()
        self.voices.close()

    def _speak(self, request_id: str, session: _Session, segments: list[Segment], outlet: _Outlet) -> None:
        """Queue segments; the caller holds the lock."""
        if not segments:
            self._forget_if_done(request_id, session)
            return
        outlet.jobs += 1
        session.jobs.append(_Job(segments, outlet, time.monotonic()))
        if len(session.jobs) == 1:
            self._get_ready(request_id, session)

    def _close(self, outlet: _Outlet | None) -> None:
        """Give `outlet` no more jobs, and finish its sink once it has none."""
        if outlet is None:
            return
        with self._lock:
            if not outlet.newest:
                return
            outlet.newest = False
            done = outlet.done
        if done:
            outlet.sink.finish()

    def _get_ready(self, request_id: str, session: _Session) -> None:
        self._ready.append((request_id, session))
        self._pool.submit(self._serve)

    def _serve(self) -> None:
        """Run one job of the most urgent session: one without audio yet, else the one that runs out first."""
        with self._lock:
            place = min(
                range(len(self._ready)), key=lambda place: self._ready[place][1].playback.played_until_s
            )
            request_id, session = self._ready.pop(place)
        job = session.jobs[0]
        try:
            for segment in job.segments:
                self._say(session, segment, job)
        except VoiceFailed as failure:
            log.warning("a segment could not be spoken: %s", failure, exc_info=failure.__cause__)
            self._fail(request_id, job.outlet.sink, str(failure))
        except Exception:
            log.exception("a segment could not be spoken")
            self._fail(request_id, job.outlet.sink, "internal error while speaking")
        with self._lock:
            session.jobs.popleft()
            if session.jobs:
                self._get_ready(request_id, session)
            self._forget_if_done(request_id, session)
            job.outlet.jobs -= 1
            done = job.outlet.done
        if done:
            job.outlet.sink.finish()

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
        self._fall_back_if_late(session, segment, job)
        text = session.voice.speakable(segment.speech)
        if session.stopped or not any(character.isalnum() for character in text):
            session.unspoken = source
            return
        pause_s = 0.0 if session.ending is None else PAUSE_S[session.ending]
        hz = session.voice.sample_rate
        meter = Meter(session.playback, job.arrived_s)
        with closing(session.voice.speak(text)) as raw:
            for pcm in shape(raw, hz, pause_s):
                if session.stopped or job.outlet.sink.cancelled():
                    session.stopped = True
                    return
                job.outlet.sink.send(SpeechBlock(pcm, hz, source))
                meter.sent(len(pcm) / hz)
                source = ""
        session.unspoken = source
        if meter.audio_s:
            report = meter.report()
            self._observer.segment(report)
            if session.voice.pace is COMPUTED:
                self._keep_up.learn(report)
            session.ending = segment.ending
            session.playback.segments += 1

    def _fall_back_if_late(self, session: _Session, segment: Segment, job: _Job) -> None:
        if self._fallback is None or session.voice.pace is not COMPUTED:
            return
        if self._keep_up.late_s(session.playback, job.arrived_s, len(segment.speech)) <= PATIENCE_S:
            return
        hz = session.voice.sample_rate
        session.voice = Resampled(self.voices.voice(self._fallback, session.rate), hz)
        self._observer.fell_back()
