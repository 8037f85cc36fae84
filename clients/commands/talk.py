"""Talk: questions as sound files or by microphone, the answer spoken while it is written.

The speech is played if a player is installed (pw-play, paplay, aplay, play or ffplay) and saved with --out.
With --mic every utterance is a question; speaking while the answer is spoken interrupts it, and the
conversation keeps what was heard of it. Use headphones: a loudspeaker would interrupt itself.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import contract
from ..answer import Delta
from ..client import Answer, AudioFlamingo
from ..errors import AudioFlamingoError
from ..request import Clip, Parameters
from ..sound.microphone import Frame, Microphone, UtteranceDetector
from ..sound.playback import Figures, Loudspeaker, Meter, Nowhere, Output, Transcript, WavFile
from . import flags, terminal
from .conversation import Conversation
from .interruptible import deltas


class Reply:
    """One spoken answer while it arrives. `interrupt` may be called from any thread, at any time."""

    def __init__(self, flamingo: AudioFlamingo, answer: Answer, outputs: list[Output]):
        self._flamingo = flamingo
        self._answer = answer
        self._outputs = outputs
        self._meter = Meter()
        self._transcript = Transcript()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._heard: str | None = None  # None: to its end

    def play(self) -> None:
        """Print and play the answer to its end or until it is interrupted. Raises AudioFlamingoError.

        Ctrl-C interrupts it too, and goes on to the caller.
        """
        try:
            for delta in deltas(self._answer):
                self._take(delta)
            print(flush=True)
            for output in self._outputs:
                output.drain()
        except KeyboardInterrupt:
            self.interrupt()
            raise
        except AudioFlamingoError:
            print(flush=True)
            if self._heard is None:
                raise
        finally:
            self._over.set()

    def interrupt(self) -> None:
        """Be silent now, and stop the server."""
        with self._lock:
            if self._over.is_set():
                return
            playhead = self._meter.playhead
            self._heard = self._transcript.heard(playhead.heard_s, playhead.total_s)
            self._over.set()
            for output in self._outputs:
                output.stop()
        self._answer.cancel()
        with contextlib.suppress(AudioFlamingoError):  # the answer is over, one way or the other
            self._flamingo.stop_speech(self._answer.request_id)

    @property
    def heard(self) -> str:
        """The part of the answer that the user has heard: all of it, if it was not interrupted."""
        return self._answer.text_so_far if self._heard is None else self._heard

    @property
    def figures(self) -> Figures:
        return self._meter.figures()

    def _take(self, delta: Delta) -> None:
        if delta.text:
            self._meter.text()
            print(delta.text, end="", flush=True)
        if delta.speech_error:
            terminal.complain(f"\nno more speech: {delta.speech_error}")
        if delta.speech is None or delta.sample_rate is None:
            return
        with self._lock:
            if self._over.is_set():
                return
            if delta.speech_text:
                self._transcript.begins(delta.speech_text, self._meter.playhead.total_s)
            self._meter.speech(len(delta.speech) / delta.sample_rate)
            for output in self._outputs:
                output.play(delta.speech, delta.sample_rate)


class Talk:
    """A spoken conversation with one server."""

    def __init__(
        self,
        flamingo: AudioFlamingo,
        outputs: list[Output],
        prompt: str,
        timeout_s: float,
        parameters: Parameters,
    ):
        self._flamingo = flamingo
        self._outputs = outputs
        self._prompt = prompt
        self._timeout_s = timeout_s
        self._parameters = parameters
        self.conversation = Conversation()

    def ask(self, clip: Clip) -> Reply:
        """Send the next question; the reply is not yet played. Raises AudioFlamingoError."""
        self.conversation = self.conversation.asked(self._prompt, [clip])
        answer = self._flamingo.chat(
            self.conversation.messages,
            self.conversation.clips,
            timeout_s=self._timeout_s,
            **self._parameters,
        )
        return Reply(self._flamingo, answer, self._outputs)

    def keep(self, reply: Reply) -> None:
        """Go on from what was heard of the reply."""
        if reply.heard:
            self.conversation = self.conversation.answered(reply.heard)


class Listener:
    """Reads the microphone in a thread: queues utterances, and interrupts the reply when the user speaks."""

    def __init__(self, frames: Iterable[Frame], detector: UtteranceDetector | None = None):
        """frames: the microphone's, 32 ms each. Raises AudioFlamingoError as UtteranceDetector does."""
        self._frames = frames
        self._detector = detector or UtteranceDetector()
        self._utterances: queue.SimpleQueue[Clip | Exception | None] = queue.SimpleQueue()
        self.reply: Reply | None = None

    def start(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def utterances(self) -> Iterator[Clip]:
        """What the user says, one utterance after the other, until the microphone ends.

        Raises what ended the thread: AudioFlamingoError when the microphone fails.
        """
        while (utterance := self._utterances.get()) is not None:
            if isinstance(utterance, Exception):
                raise utterance
            yield utterance

    def _listen(self) -> None:
        try:
            for frame in self._frames:
                change = self._detector.take(frame)
                if change == "start" and (reply := self.reply) is not None:
                    reply.interrupt()
                if change == "stop":
                    self._utterances.put(self._detector.utterance())
        except Exception as error:  # the main thread raises it
            self._utterances.put(error)
        else:
            self._utterances.put(None)


def main() -> int:
    arguments = _parse()
    try:
        with contextlib.ExitStack() as opened:
            flamingo = opened.enter_context(
                AudioFlamingo(
                    arguments.url,
                    contract.AUDIO_FLAMINGO_SPEECH,
                    flags.tls(arguments),
                    by_hash=arguments.by_hash,
                )
            )
            outputs = _outputs(arguments.out)
            for output in outputs:
                opened.callback(output.close)
            parameters = flags.parameters(arguments) | _voice(arguments)
            talk = Talk(flamingo, outputs, arguments.prompt, arguments.timeout, parameters)
            for file in arguments.files:
                _turn(talk, file, None)
            if arguments.mic or arguments.microphone:
                microphone = Microphone(arguments.microphone or Microphone.find())
                opened.callback(microphone.close)
                listener = Listener(microphone)
                listener.start()
                terminal.note("listening; Ctrl-C ends the talk")
                for utterance in listener.utterances():
                    _turn(talk, utterance, listener)
    except AudioFlamingoError as error:
        terminal.complain(str(error))
        return 1
    except KeyboardInterrupt:
        return flags.EXIT_STOPPED
    return 0


def _turn(talk: Talk, clip: Clip, listener: Listener | None) -> None:
    reply = talk.ask(clip)
    if listener is not None:
        listener.reply = reply
    reply.play()
    talk.keep(reply)
    terminal.note(str(reply.figures))


def _outputs(out: Path | None) -> list[Output]:
    outputs: list[Output] = [] if out is None else [WavFile(out)]
    loudspeaker = Loudspeaker.find()
    if loudspeaker is not None:
        outputs.append(loudspeaker)
    if not outputs:
        terminal.note(
            "no player is installed (pw-play, paplay, aplay, play, ffplay); --out FILE saves the speech"
        )
    return outputs or [Nowhere()]


def _voice(arguments: argparse.Namespace) -> Parameters:
    chosen: Parameters = {}
    if arguments.voice is not None:
        chosen["voice"] = arguments.voice
    if arguments.rate is not None:
        chosen["rate"] = arguments.rate
    return chosen


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="audio-flamingo talk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=flags.EXIT_CODES,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="spoken questions, one turn each")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="text that goes with every question")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="save the speech as WAV, valid at any moment"
    )
    parser.add_argument("--mic", action="store_true", help="go on with questions by microphone")
    parser.add_argument(
        "--microphone", metavar="COMMAND", help="what records: raw 16-bit mono at 16 kHz to its stdout"
    )
    parser.add_argument("--voice", help="one of the server's voices; a wrong name lists them")
    parser.add_argument("--rate", type=float, metavar="R", help="0.5 to 2, times the voice's own speed")
    flags.add_connection(parser)
    flags.add_parameters(parser)
    arguments = parser.parse_args()
    if not (arguments.files or arguments.mic or arguments.microphone):
        parser.error("give spoken questions as files, or --mic")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
