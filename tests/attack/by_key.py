"""Attacks on API keys: wrong ones, those that end while they are used, and what belongs to another key."""

from __future__ import annotations

import http.client
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from websockets.exceptions import InvalidStatus

from serving.door.api_keys import ApiKey, KeyFile, hashed, new_key, utc_now
from tests.attack.scene import Attack, Scene
from tests.support import scrape
from tests.support.guarded_door import bearer
from tests.support.realtime_client import Talker
from tests.support.wire import _bytes_input, _request

OWN = [("grpc.use_local_subchannel_pool", 1)]
FILES = ("journal", "access", "log", "launch.out")  # what the server writes
PROMPT = "What is it?"
Said = tuple[int | str, str]


def key_file(folder: Path) -> tuple[Path, dict[str, str]]:
    """honest, other, leaver; expired and revoked."""
    names = ("honest", "other", "leaver", "expired", "revoked")
    file, keys = folder / "keys.json", {name: new_key() for name in names}
    state: dict[str, dict[str, Any]] = {"expired": {"expires": utc_now()}, "revoked": {"revoked": True}}
    KeyFile(
        keys=tuple(ApiKey(name=name, sha256=hashed(key), **state.get(name, {})) for name, key in keys.items())
    ).write(file)
    return file, keys


def by_grpc(scene: Scene, key: str | None) -> Said:
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ModelInfer(_question("mine", 2), timeout=60, metadata=bearer(key))
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def by_kserve(scene: Scene, key: str | None) -> Said:
    body = {"prompt": PROMPT, "max_tokens": 2}
    code, found = _post(scene, "/v2/models/audio_flamingo/generate", body, key)
    return code, "" if code == 200 else found["error"].partition(": ")[2]


def by_openai(scene: Scene, key: str | None) -> Said:
    body = {"model": "audio_flamingo", "max_tokens": 2, "messages": [{"role": "user", "content": PROMPT}]}
    code, found = _post(scene, "/v1/chat/completions", body, key)
    return code, "" if code == 200 else found["error"]["message"]


def by_websocket(scene: Scene, key: str | None) -> Said:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return _connected(scene, additional_headers=headers)


def by_subprotocol(scene: Scene, key: str | None) -> Said:
    """As a page must."""
    offered = ["realtime"] if key is None else ["realtime", f"openai-insecure-api-key.{key}"]
    return _connected(scene, subprotocols=offered)


def _connected(scene: Scene, **options: Any) -> Said:
    try:
        with _talker(scene, **options):
            return 200, ""
    except InvalidStatus as error:
        return error.response.status_code, json.loads(error.response.body)["error"]["message"]


PROTOCOLS: Mapping[str, Callable[[Scene, str | None], Said]] = {
    "gRPC": by_grpc,
    "KServe": by_kserve,
    "OpenAI": by_openai,
    "WebSocket": by_websocket,
    "a page's WebSocket": by_subprotocol,
}


def wrong_keys(scene: Scene) -> str:
    given = {
        "no key": None,
        "wrong key": new_key(),
        "expired": scene.keys["expired"],
        "revoked": scene.keys["revoked"],
    }
    for why, key in given.items():
        _refused_everywhere(scene, why, key)
    _admitted_everywhere(scene, scene.keys["honest"])
    _never_written(scene, [*scene.keys.values(), str(given["wrong key"])])
    journal = Path(scene.server.output.parent, "journal").read_text()
    assert '"why": "expired", "key": "expired"' in journal
    return (
        f"401 or UNAUTHENTICATED over {', '.join(PROTOCOLS)}, with one sentence; counted; no key in any log"
    )


def keys_that_end(scene: Scene) -> str:
    """Revoked and expired by SIGHUP, with a stream and a session open; back; a file that is broken."""
    key, file = scene.keys["leaver"], scene.server.output.parent / "keys.json"
    before = KeyFile.read(file)
    (leaver,) = (one for one in before.keys if one.name == "leaver")
    ended = {
        "revoked": leaver.model_copy(update={"revoked": True}),
        "expired": leaver.model_copy(update={"expires": utc_now() - timedelta(seconds=1)}),
    }
    for why, changed in ended.items():
        with (
            grpc.insecure_channel(scene.server.url, OWN) as channel,
            _talker(scene, additional_headers={"Authorization": f"Bearer {key}"}) as talker,
        ):
            ask = _open_stream(channel, key)
            assert ask() == ""
            before.with_key(changed).write(file)
            _read_again(scene)
            assert ask().startswith("UNAUTHENTICATED: API key 'leaver'")
            talker.say(PROMPT)
            done = talker.until("response.done")["response"]
            assert done["status"] == "failed", done
            assert "API key 'leaver'" in done["status_details"]["error"]["message"]
        _refused_everywhere(scene, why, key)
        before.write(file)
        _read_again(scene)
        _admitted_everywhere(scene, key)
    KeyFile(keys=tuple(one for one in before.keys if one.name != "leaver")).write(file)
    _read_again(scene)
    _refused_everywhere(scene, "wrong key", key)
    file.write_text("{")
    os.kill(scene.server.launcher()[0], signal.SIGHUP)
    scrape.wait_until(lambda: "going on with those before" in scene.server.said())
    _refused_everywhere(scene, "wrong key", key)
    _admitted_everywhere(scene, scene.keys["honest"])
    before.write(file)
    _read_again(scene)
    _never_written(scene, list(scene.keys.values()))
    return "revoked, expired and taken out by SIGHUP: refused at the next request of an open stream and session, too"


def anothers_answers(scene: Scene) -> str:
    """Another key asks for what is the honest one's: its stream by id, its spoken answer, its clip by hash."""
    alone = _streamed(scene, "alone")
    with grpc.insecure_channel(scene.server.url, OWN) as channel:  # one connection, as a proxy pools them
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(
            iter([_question("shared", 60)]), timeout=60, metadata=bearer(scene.keys["honest"])
        )
        text = _text(next(call))
        for model in ("llm", "tts"):
            list(
                stub.ModelStreamInfer(iter([_stop(model)]), timeout=30, metadata=bearer(scene.keys["other"]))
            )
        text += "".join(map(_text, call))
    assert text == alone, (text, alone)
    assert scene.sample('af3_stops_total{found="yes"}') == 0
    spoken = _spoken_id(scene, scene.keys["honest"])
    assert _refers(scene, spoken, scene.keys["honest"])[0] == 200
    code, found = _refers(scene, spoken, scene.keys["other"])
    assert (code, found["error"]["code"]) == (400, "audio_not_found"), found
    return "its stop found nothing, the answer is whole; its spoken answer cannot be named"


def _refused_everywhere(scene: Scene, why: str, key: str | None) -> None:
    """With the sentence of that reason, and counted."""
    name = f'af3_callers_refused_total{{why="{why}"}}'
    before = scene.sample(name)
    said = {protocol: ask(scene, key) for protocol, ask in PROTOCOLS.items()}
    assert {code for code, _ in said.values()} == {"UNAUTHENTICATED", 401}, said
    sentences = {sentence for _, sentence in said.values()}
    assert len(sentences) == 1, sentences
    assert scene.sample(name) == before + len(PROTOCOLS), why
    assert key is None or key not in str(said)


def _admitted_everywhere(scene: Scene, key: str) -> None:
    said = {protocol: ask(scene, key) for protocol, ask in PROTOCOLS.items()}
    assert {code for code, _ in said.values()} == {"OK", 200}, said


def _never_written(scene: Scene, keys: list[str]) -> None:
    folder = scene.server.output.parent
    with urllib.request.urlopen(scene.server.metrics, timeout=30) as reply:
        written = {"metrics": reply.read().decode()}
    written |= {name: (folder / name).read_text(errors="replace") for name in FILES}
    assert written["journal"] and written["access"]
    held = [name for name, text in written.items() if any(key in text for key in keys)]
    assert not held, f"a key stands in {held}"


def _read_again(scene: Scene) -> None:
    count = scene.server.said().count("read again")
    os.kill(scene.server.launcher()[0], signal.SIGHUP)
    scrape.wait_until(lambda: scene.server.said().count("read again") > count)


def _open_stream(channel: grpc.Channel, key: str) -> Callable[[], str]:
    """A stream that stays open; each call asks on it once more. Its error, or ""."""
    asked: Queue[Any] = Queue()
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    replies = stub.ModelStreamInfer(iter(asked.get, None), timeout=120, metadata=bearer(key))

    def ask() -> str:
        asked.put(_question("again", 1))
        for reply in replies:
            if reply.error_message or reply.infer_response.parameters["triton_final_response"].bool_param:
                return str(reply.error_message)
        return "the stream ended"

    return ask


def _streamed(scene: Scene, request_id: str) -> str:
    with grpc.insecure_channel(scene.server.url, OWN) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        replies = stub.ModelStreamInfer(
            iter([_question(request_id, 60)]), timeout=60, metadata=bearer(scene.keys["honest"])
        )
        return "".join(map(_text, replies))


def _spoken_id(scene: Scene, key: str) -> str:
    body = _chat([{"role": "user", "content": PROMPT}])
    code, found = _post(scene, "/v1/chat/completions", body, key)
    assert code == 200, found
    return str(found["choices"][0]["message"]["audio"]["id"])


def _refers(scene: Scene, spoken: str, key: str) -> tuple[int, Any]:
    """A conversation that goes on from a spoken answer."""
    said = {"role": "assistant", "audio": {"id": spoken}}
    again = {"role": "user", "content": PROMPT}
    return _post(scene, "/v1/chat/completions", _chat([again, said, again]), key)


def _chat(messages: list[Any]) -> dict[str, Any]:
    sound = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    return {"model": "audio_flamingo", "max_tokens": 8, "messages": messages, **sound}


def _post(scene: Scene, path: str, body: dict[str, Any], key: str | None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(scene.host, scene.port, timeout=60)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        connection.request("POST", f"{path}?api_key={key}", json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def _talker(scene: Scene, **options: Any) -> Talker:
    return Talker(f"ws://{scene.host}:{scene.port}", **options)


def _question(request_id: str, tokens: int) -> Any:
    prompt = _bytes_input("prompt", [PROMPT.encode()])
    return _request("audio_flamingo", [prompt], request_id, {"max_tokens": tokens})


def _stop(model: str) -> Any:
    stop = service_pb2.ModelInferRequest(model_name=model, id="shared")
    stop.inputs.add(name="stop", datatype="BOOL", shape=[1])
    stop.raw_input_contents.append(b"\x01")
    return stop


def _text(reply: Any) -> str:
    found = reply.infer_response
    assert not reply.error_message, reply.error_message
    for tensor, raw in zip(found.outputs, found.raw_output_contents, strict=True):
        if tensor.name == "text":
            return bytes(raw[4:]).decode()
    return ""


KEYED = (
    *("--api-keys", "{folder}/keys.json"),
    *("--journal", "{folder}/journal"),
    *("--access-log", "{folder}/access"),
)
ATTACKS = [
    Attack("wrong, expired, revoked, missing key", "table", wrong_keys, server=KEYED),
    Attack("keys that end while they are used", "table", keys_that_end, server=KEYED),
    Attack("another key's stream and spoken answer", "table", anothers_answers, server=KEYED),
]
