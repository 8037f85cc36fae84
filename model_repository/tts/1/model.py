import json

from af3 import contract
from af3.parameters import parse_parameters
from af3.speech.catalogue import Catalogue
from af3.speech.session import Speech
from af3.speech.whole_text import say
from serving.heartbeat import Heart
from serving.steps import adapter
from serving.steps.settings import TtsSettings
from serving.steps.speech_sink import SpeechMetrics, SpeechSink


class TritonPythonModel:
    """Text deltas in; the same at once, and their speech as it is made, out."""

    def initialize(self, args):
        self._heart = Heart("tts")
        settings = TtsSettings.from_config(json.loads(args["model_config"]))
        voices = Catalogue.load(settings.engine_dir, settings.threads, settings.provider)
        self._speech = Speech(
            voices,
            settings.threads,
            settings.idle_s,
            SpeechMetrics(),
            fallback=settings.fallback_voice,
        )

    def execute(self, requests):
        with self._heart.at_work():
            for request in requests:
                self._take_or_refuse(request, SpeechSink(request))

    def finalize(self):
        self._speech.close()

    def _take_or_refuse(self, request, sink):
        try:
            self._take(request, sink)
        except Exception as error:
            sink.refuse(error)

    def _take(self, request, sink):
        if adapter.array(request, contract.STOP) is not None:
            self._speech.stop(request.request_id())
            sink.finish()
            return
        text = adapter.text(request, contract.TEXT)
        if adapter.array(request, contract.INDEX) is None:
            parameters = parse_parameters(adapter.parameters(request))
            say(self._speech, request.request_id(), text, parameters.voice, parameters.rate, sink)
            return
        delta = adapter.present(request, contract.POSTPROCESS.outputs)
        sink.pass_on(delta)
        if delta[contract.INDEX.name][0] == 0:
            parameters = parse_parameters(adapter.parameters(request))
            self._speech.begin(request.request_id(), parameters.voice, parameters.rate, sink)
        last = bool(delta[contract.FINISH_REASON.name][0])
        self._speech.feed(request.request_id(), text, last, sink)
