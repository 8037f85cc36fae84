import json

from serving.heartbeat import Heart
from serving.steps.answers import Answers
from serving.steps.settings import PostprocessSettings


class TritonPythonModel:
    """New token ids in, a text delta out; stops the LLM when the answer is no longer wanted."""

    def initialize(self, args):
        self._heart = Heart("postprocess")
        self._answers = Answers(PostprocessSettings.from_config(json.loads(args["model_config"])))

    def execute(self, requests):
        with self._heart.at_work():
            for request in requests:
                self._answers.take(request)
            self._answers.report()

    def finalize(self):
        self._answers.close()
