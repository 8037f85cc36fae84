"""The client for ordinary programs: ask, and iterate the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from typing_extensions import Self, Unpack

from .answer import AnswerSoFar, Delta, Progress
from .api_key import authorization
from .by_hash import TriedByName, named
from .clip_key import Metadata, metadata
from .errors import from_status, raise_error_in
from .request import (
    CHANNEL_OPTIONS,
    DEFAULT_MODEL,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    STOP_TIMEOUT_S,
    Audio,
    Message,
    Parameters,
    deadline_s,
    messages_request,
    prompt_request,
    stop_speech_request,
)
from .tls import Tls


class AudioFlamingo:
    """A connection to one server, for any number of answers at once and from any thread.

    Every answer has a stream of its own: cancelling one cannot touch another.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        model: str = DEFAULT_MODEL,
        tls: Tls | None = None,
        api_key: str | None = None,
        by_hash: bool = False,
    ):
        """url: gRPC address, host:port. Nothing is sent before the first question.

        api_key: for a server that asks for one; AUDIO_FLAMINGO_API_KEY of the environment by default.
        by_hash: name large clips by their SHA-256, and send only those that the server does not have; it keeps them.
        """
        self.url = url
        self.model = model
        self._by_hash = by_hash
        self._authorization = authorization(api_key)
        self._channel = (
            grpc.insecure_channel(url, options=CHANNEL_OPTIONS)
            if tls is None
            else grpc.secure_channel(url, tls.credentials(), options=CHANNEL_OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def ask(
        self,
        audio: Audio,
        prompt: str,
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        request_id: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> Answer:
        """Ask one question about one clip, several, or none (`[]`).

        Returns at once; the answer is read by iterating it. Raises AudioFlamingoError for what cannot be
        sent, such as a file that cannot be read.
        """
        request = prompt_request(self.model, audio, prompt, timeout_s, request_id, parameters)
        return self._start(request, timeout_s)

    def chat(
        self,
        messages: Sequence[Message],
        audio: Audio = (),
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        request_id: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> Answer:
        """Go on with a conversation: `messages` in the OpenAI/Hugging Face chat format.

        Each part `{"type": "audio"}` stands for the next clip of `audio`. Returns and raises as `ask` does.
        """
        request = messages_request(self.model, messages, audio, timeout_s, request_id, parameters)
        return self._start(request, timeout_s)

    def stop_speech(self, request_id: str) -> None:
        """Say no more of a spoken answer. Returns when the server has stopped; raises AudioFlamingoError.

        Cancelling does that too while the text is written. After that Triton no longer tells the steps of an
        ensemble that the client has left, and a slow voice would go on to the end of the answer.
        """
        try:
            for response in self._stub.ModelStreamInfer(
                iter([stop_speech_request(request_id)]), timeout=STOP_TIMEOUT_S, metadata=self._authorization
            ):
                raise_error_in(response, self.url)
        except grpc.RpcError as error:
            raise from_status(error.code().name, error.details(), self.url) from None

    def close(self) -> None:
        """Close the connection; answers that are not complete are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, request: service_pb2.ModelInferRequest, timeout_s: float | None) -> Answer:
        beside = (*metadata(request), *self._authorization)
        most_s = deadline_s(timeout_s)
        short = named(request) if self._by_hash else None
        call = (
            self._call(request, beside, most_s)
            if short is None
            else TriedByName(request, short, beside, most_s, self._call)
        )
        return Answer(request.id, call, Progress(self.url, timeout_s))

    def _call(
        self, request: service_pb2.ModelInferRequest, beside: Metadata, most_s: float | None
    ) -> grpc.Call:
        return self._stub.ModelStreamInfer(iter([request]), timeout=most_s, metadata=beside)


class Answer(AnswerSoFar):
    """An answer while it is written: iterate its deltas, or wait for the whole `text()`.

    As a context manager it is cancelled when the block is left before its end. Iterating raises
    AudioFlamingoError; what came before is still in `text_so_far`.
    """

    def __init__(self, request_id: str, call: grpc.Call | TriedByName, progress: Progress):
        super().__init__(request_id, progress)
        self._call = call

    def __iter__(self) -> Iterator[Delta]:
        try:
            for response in self._call:
                delta = self._progress.take(response)
                if delta is not None:
                    yield delta
        except grpc.RpcError as error:
            # Not debug_error_string(): it waits forever for a call that was cancelled here (grpcio 1.85).
            raise self._progress.failure(error.code().name, error.details()) from None
        self._progress.end()

    def text(self) -> str:
        """The whole answer, once it is complete."""
        for _ in self:
            pass
        return self.text_so_far

    def cancel(self) -> None:
        """Stop the answer, on the server too; from any thread. Whoever iterates gets status CANCELLED."""
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
