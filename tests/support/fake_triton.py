"""A Triton that answers as it is told, in this process: what the door does with it is seen in milliseconds.

The prompt of a request, or the text of its last message, says what happens: words as FakeTriton has them, between bars.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from af3 import contract
from serving.address import KEY_HEADER, Ports

SERVICE = "/inference.GRPCInferenceService/"
KEY = f"triton-grpc-protocol-{KEY_HEADER}"


class FakeTriton:
    """`seen`: requests by id; `stops`: how often each id was stopped at a step; use it as a context manager.

    say=TEXT answers with the text; many=N in N responses; forever: until stopped; big=N: N bytes of speech a response;
    hz=N: of the speech; muse=TEXT: thoughts with each response; tokens=PROMPT,AUDIO: said at the end; mute=SENTENCE:
    the voice fails; error=SENTENCE fails; die breaks the stream off; wait: no response before `go` is set; linger: no
    end of the stream before it; deaf: no stop is heard; deaf=N: nor are the first N.
    """

    def __init__(self) -> None:
        self.unprompted = ""  # what happens to a request without words
        self.seen: dict[str, service_pb2.ModelInferRequest] = {}
        self.stops: Counter[tuple[str, str]] = Counter()
        self.stop_error = ""  # with what every stop is answered
        self.keys: Counter[str] = Counter()  # how many calls brought which
        self.live = 0
        self._stopped: dict[str, asyncio.Event] = {}
        self._unheard: Counter[str] = Counter()  # how many stops of a request are
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeTriton:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def ports(self) -> Ports:
        return Ports(self._port, 0, 9)  # nothing serves metrics

    def go(self) -> None:
        """Let those that wait go on."""
        self._loop.call_soon_threadsafe(self._going.set)

    def hold(self) -> None:
        """Let those that wait wait again."""
        self._loop.call_soon_threadsafe(self._going.clear)

    async def _start(self) -> None:
        self._going = asyncio.Event()
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        self.keys[str(dict(context.invocation_metadata() or ()).get(KEY, ""))] += 1
        async for raw in requests:
            request = service_pb2.ModelInferRequest.FromString(raw)
            if any(tensor.name == contract.STOP.name for tensor in request.inputs):
                self.stops[request.model_name, request.id] += 1
                heard = self.stops[request.model_name, request.id] > self._unheard[request.id]
                if request.model_name == contract.LLM.name and heard:
                    self._stopped.setdefault(request.id, asyncio.Event()).set()
                if self.stop_error:
                    message = service_pb2.ModelStreamInferResponse(error_message=self.stop_error)
                    await context.write(message.SerializeToString())
                return
            self.seen[request.id] = request
            self.live += 1
            try:
                await self._answer(request, context)
            finally:
                self.live -= 1

    async def _answer(self, request: Any, context: grpc.aio.ServicerContext) -> None:
        words = dict(word.partition("=")[::2] for word in (_prompt(request) or self.unprompted).split("|"))
        stopped = self._stopped.setdefault(request.id, asyncio.Event())
        if "deaf" in words:
            self._unheard[request.id] = int(words["deaf"] or 10**9)
        if "wait" in words:
            either = {asyncio.ensure_future(event.wait()) for event in (self._going, stopped)}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in either:
                    waiting.cancel()
        if "error" in words:
            message = service_pb2.ModelStreamInferResponse(error_message=words["error"])
            message.infer_response.id = request.id
            await context.write(message.SerializeToString())
            return
        count = 10**9 if "forever" in words else int(words.get("many", 1))
        for index in range(count):
            if "die" in words and index == int(words["die"] or 0):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            last = index == count - 1 or stopped.is_set()
            pcm = bytes(int(words.get("big", 0)))
            text = words.get("say", "a ")
            hz = int(words.get("hz", 16_000))
            message = response(request, text, index, last, pcm, hz)
            if last and "tokens" in words:
                add_sizes(message.infer_response, *map(int, words["tokens"].split(",")))
            if "muse" in words:
                add_text(message.infer_response, contract.THINKING, words["muse"])
            if "mute" in words:
                add_text(message.infer_response, contract.SPEECH_ERROR, words["mute"])
            await context.write(message.SerializeToString())
            if last and "linger" in words:
                await self._going.wait()
            if last:
                break
            await asyncio.sleep(0.002 if "forever" in words else 0)


def response(request: Any, text: str, index: int, last: bool, pcm: bytes, hz: int = 16_000) -> Any:
    """One response of an ensemble, as Triton writes it; speech says the text it comes with."""
    message = service_pb2.ModelStreamInferResponse()
    found = message.infer_response
    found.model_name, found.model_version, found.id = request.model_name, "1", request.id
    found.parameters["triton_final_response"].bool_param = last
    said = text.encode()
    reason = b"stop" if last else b""
    values = [
        (contract.TEXT, len(said).to_bytes(4, "little") + said),
        (contract.FINISH_REASON, len(reason).to_bytes(4, "little") + reason),
        (contract.TOKEN_COUNT, (index + 1).to_bytes(4, "little")),
        (contract.INDEX, index.to_bytes(4, "little")),
        (contract.TOKEN_IDS, index.to_bytes(4, "little")),
    ]
    if pcm:
        values += [(contract.SPEECH, pcm), (contract.SAMPLE_RATE, hz.to_bytes(4, "little"))]
        values.append((contract.SPEECH_TEXT, len(said).to_bytes(4, "little") + said))
    for tensor, raw in values:
        datatype = "BYTES" if tensor.dtype == "STRING" else tensor.dtype
        shape = [len(raw) // 2] if tensor is contract.SPEECH else [1]
        found.outputs.add(name=tensor.name, datatype=datatype, shape=shape)
        found.raw_output_contents.append(raw)
    return message


def add_sizes(response: Any, prompt: int, audio: int) -> None:
    for tensor, count in ((contract.PROMPT_TOKENS, prompt), (contract.AUDIO_TOKENS, audio)):
        response.outputs.add(name=tensor.name, datatype="INT32", shape=[1])
        response.raw_output_contents.append(count.to_bytes(4, "little"))


def add_text(response: Any, tensor: contract.Tensor, text: str) -> None:
    said = text.encode()
    response.outputs.add(name=tensor.name, datatype="BYTES", shape=[1])
    response.raw_output_contents.append(len(said).to_bytes(4, "little") + said)


def _prompt(request: Any) -> str:
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=False):
        if tensor.name in (contract.PROMPT.name, contract.TEXT.name):
            return bytes(raw[4:]).decode()
        if tensor.name == contract.MESSAGES.name:
            return _last_text(json.loads(bytes(raw[4:])))
    return ""


def _last_text(messages: Any) -> str:
    """The last text of the last message."""
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    return ["", *(part["text"] for part in content if part["type"] == "text")][-1]


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, triton: FakeTriton):
        self._triton = triton

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == f"{SERVICE}ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(self._triton.stream)
        return None
