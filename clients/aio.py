"""The client for asyncio: the same as `clients.client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType

import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from typing_extensions import Self, Unpack

from .answer import AnswerSoFar, Delta, Progress
from .api_key import authorization
from .by_hash import AsyncTriedByName, named
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


class AsyncAudioFlamingo:
    """A connection to one server, for any number of answers at once within one event loop."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        model: str = DEFAULT_MODEL,
        tls: Tls | None = None,
        api_key: str | None = None,
        by_hash: bool = False,
    ):
        """url: gRPC address, host:port. To be made inside the running event loop. api_key, by_hash: as
        AudioFlamingo's."""
        self.url = url
        self.model = model
        self._by_hash = by_hash
        self._authorization = authorization(api_key)
        self._channel = (
            grpc.aio.insecure_channel(url, options=CHANNEL_OPTIONS)
            if tls is None
            else grpc.aio.secure_channel(url, tls.credentials(), options=CHANNEL_OPTIONS)
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
    ) -> AsyncAnswer:
        """As `AudioFlamingo.ask`. Not awaited itself; files are read here, before it returns."""
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
    ) -> AsyncAnswer:
        """As `AudioFlamingo.chat`; see `ask`."""
        request = messages_request(self.model, messages, audio, timeout_s, request_id, parameters)
        return self._start(request, timeout_s)

    async def stop_speech(self, request_id: str) -> None:
        """As `AudioFlamingo.stop_speech`."""
        try:
            async for response in self._stub.ModelStreamInfer(
                iter([stop_speech_request(request_id)]), timeout=STOP_TIMEOUT_S, metadata=self._authorization
            ):
                raise_error_in(response, self.url)
        except grpc.RpcError as error:
            raise from_status(error.code().name, error.details(), self.url) from None

    async def close(self) -> None:
        """Close the connection; answers that are not complete are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self, request: service_pb2.ModelInferRequest, timeout_s: float | None) -> AsyncAnswer:
        beside = (*metadata(request), *self._authorization)
        most_s = deadline_s(timeout_s)
        short = named(request) if self._by_hash else None
        call = (
            self._call(request, beside, most_s)
            if short is None
            else AsyncTriedByName(request, short, beside, most_s, self._call)
        )
        return AsyncAnswer(request.id, call, Progress(self.url, timeout_s))

    def _call(
        self, request: service_pb2.ModelInferRequest, beside: Metadata, most_s: float | None
    ) -> grpc.aio.StreamStreamCall:
        return self._stub.ModelStreamInfer(iter([request]), timeout=most_s, metadata=beside)


class AsyncAnswer(AnswerSoFar):
    """An answer while it is written: `async for` its deltas, or `await` the whole `text()`.

    Leaving its `async with` block, or cancelling the task that reads it, cancels it on the server too.
    """

    def __init__(
        self, request_id: str, call: grpc.aio.StreamStreamCall | AsyncTriedByName, progress: Progress
    ):
        super().__init__(request_id, progress)
        self._call = call
        self._cancelled_here = False

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            async for response in self._call:
                delta = self._progress.take(response)
                if delta is not None:
                    yield delta
        except grpc.RpcError as error:
            raise self._progress.failure(error.code().name, error.details()) from None
        except asyncio.CancelledError:
            # gRPC raises it for a call cancelled by `cancel()` too, where the task itself goes on.
            if self._cancelled_here:
                raise self._progress.failure("CANCELLED", "") from None
            raise
        self._progress.end()

    async def text(self) -> str:
        """The whole answer, once it is complete."""
        async for _ in self:
            pass
        return self.text_so_far

    def cancel(self) -> None:
        """Stop the answer, on the server too. Whoever iterates gets status CANCELLED."""
        self._cancelled_here = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
