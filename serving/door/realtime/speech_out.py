"""The speech of one answer on its way to a client: converted, and sent no further ahead than can be taken back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from clients.sound.playback import Playhead
from serving.door.realtime.audio_formats import AudioFormat
from serving.door.realtime.sound_worker import Converter, SoundLost, SoundWorker

QUEUE_S = 60.0  # of speech that waits here; then the answer is read no further


class SpeechOut:
    """`send` is called with each block in the session's format. Call `finish` at the end, or `stop`."""

    def __init__(
        self, worker: SoundWorker, audio: AudioFormat, ahead_s: float, send: Callable[[bytes], None]
    ):
        self._worker = worker
        self._audio = audio
        self._ahead_s = ahead_s
        self._send = send
        self._converter: Converter | None = None
        self._hz = 0
        self._blocks: deque[tuple[bytes, float]] = deque()
        self._queued_s = 0.0
        self._changed = asyncio.Event()
        self._complete = False
        self._playhead = Playhead(asyncio.get_running_loop().time)
        self._sending = asyncio.ensure_future(self._pace())

    @property
    def heard_s(self) -> float:
        """Seconds that a client can have played if it plays every block at once."""
        return self._playhead.heard_s

    async def put(self, pcm: bytes, hz: int) -> None:
        """Little-endian int16 of the voice. Waits while too much is queued."""
        if hz != self._hz:
            await self._flush()
            self._converter = None if hz == self._audio.hz else Converter(self._worker, hz, self._audio.hz)
            self._hz = hz
        self._queue(await self._converted(pcm))
        while self._queued_s > QUEUE_S:
            self._changed.clear()
            await self._changed.wait()

    async def finish(self) -> None:
        """Wait until all is sent."""
        await self._flush()
        self._complete = True
        self._changed.set()
        await self._sending
        self._close_converter()

    def stop(self) -> None:
        """Send no more."""
        self._blocks.clear()
        self._sending.cancel()
        self._close_converter()

    def _close_converter(self) -> None:
        if self._converter is not None:
            self._converter.close()
            self._converter = None

    async def _flush(self) -> None:
        if self._converter is not None:
            self._queue(await self._converted(b"", last=True))
            self._close_converter()

    async def _converted(self, pcm: bytes, last: bool = False) -> bytes:
        """A block whose process died is given to the next one. Raises SoundLost when there is none."""
        if self._converter is None:
            return pcm
        try:
            return await self._converter.convert(pcm, last)
        except SoundLost:
            return await self._converter.convert(pcm, last)

    def _queue(self, pcm: bytes) -> None:
        if pcm:
            seconds = len(pcm) / 2 / self._audio.hz
            self._blocks.append((self._audio.from_pcm(pcm), seconds))
            self._queued_s += seconds
            self._changed.set()

    async def _pace(self) -> None:
        while True:
            while not self._blocks:
                if self._complete:
                    return
                self._changed.clear()
                await self._changed.wait()
            early_s = self._playhead.left_s - self._ahead_s
            if early_s > 0:
                await asyncio.sleep(early_s)
                continue
            block, seconds = self._blocks.popleft()
            self._queued_s -= seconds
            self._changed.set()
            self._playhead.add(seconds)
            self._send(block)
