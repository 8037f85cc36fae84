"""Checks what the server sends against the schemas that OpenAI publishes.

    python -m tests.published_schemas openapi.json

The file is that of https://github.com/openai/openai-openapi; it is not kept here. Every test run checks the same
answers against the types of the `openai` package, which are made from these schemas and show a field too many as well.
Prints how many answers were checked against which schema, and every fault; ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from serving.door.door import Door
from tests.support.clips import clip
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import CHAT, MODEL, SPOKEN, body, form, post, request
from tests.support.realtime_client import Talker
from tests.support.realtime_door import address
from tests.support.stand_in_door import door_before
from tests.unit.serving.realtime.test_realtime_events import everything

Answer = tuple[str, Any]  # the name of its schema
TRANSCRIPTIONS = "/v1/audio/transcriptions"


class Published:
    """The schemas of one OpenAPI document.

    Null stands for a property that is left out, as in the document's own examples, whose schemas do not all say so.
    """

    def __init__(self, document: dict[str, Any]):
        self._document = _with_nulls(document)
        schemas = self._document["components"]["schemas"]
        self._of_event = {
            kind: name
            for name, schema in schemas.items()
            if name.startswith("RealtimeServerEvent")
            for kind in schema.get("properties", {}).get("type", {}).get("enum", ())
        }

    def of_event(self, event: dict[str, Any]) -> str:
        return self._of_event[event["type"]]

    def faults(self, name: str, answer: Any) -> list[str]:
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._document["components"]}
        return [
            f"{error.json_path}: {error.message[:200]}"
            for error in Draft202012Validator(schema).iter_errors(answer)
        ]


def _with_nulls(value: Any) -> Any:
    """A schema in which null is allowed for what is `nullable` (OpenAPI 3.0), and for what need not be there."""
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _with_nulls(item) for key, item in value.items()}
    properties = found.get("properties")
    if isinstance(properties, dict):
        needed = found.get("required", ())
        found["properties"] = {
            name: schema if name in needed else _or_null(schema) for name, schema in properties.items()
        }
    return _or_null(found) if found.pop("nullable", None) is True else found


def _or_null(schema: Any) -> Any:
    return {"anyOf": [schema, {"type": "null"}]}


def answers(door: Door) -> Iterator[Answer]:
    """Of every path over HTTP, whole, streamed, spoken and refused."""
    for fields in ({}, SPOKEN, {"return_token_ids": True}):
        yield "CreateChatCompletionResponse", post(door, CHAT, body(TALK, **fields)).json
        streamed = {"stream": True, "stream_options": {"include_usage": True}, **fields}
        if "audio" in streamed:
            streamed["audio"] = {"voice": "alloy", "format": "pcm16"}
        for chunk in post(door, CHAT, body(TALK, **streamed)).events():
            yield "CreateChatCompletionStreamResponse", chunk
    for wrong in ({"n": 2}, {"model": "none"}, {"messages": []}, {"temperature": "x"}):
        yield "ErrorResponse", post(door, CHAT, {**body(), **wrong}).json
    yield "ListModelsResponse", request(door, "GET", "/v1/models").json
    yield "Model", request(door, "GET", f"/v1/models/{MODEL}").json
    for kind, schema in (
        ("json", "CreateTranscriptionResponseJson"),
        ("verbose_json", "CreateTranscriptionResponseVerboseJson"),
    ):
        data, headers = form({"model": MODEL, "response_format": kind}, clip(0.5))
        yield schema, request(door, "POST", TRANSCRIPTIONS, data, headers).json
    data, headers = form({"model": MODEL, "stream": "true"}, clip(0.5))
    *deltas, done = request(door, "POST", TRANSCRIPTIONS, data, headers).events()
    yield from (("TranscriptTextDeltaEvent", delta) for delta in deltas)
    yield "TranscriptTextDoneEvent", done


TALK = "say=la |many=3|big=8820|hz=22050|muse=hm|tokens=40,25"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("document", type=Path)
    published = Published(json.loads(parser.parse_args().document.read_text(encoding="utf-8")))
    checked: Counter[str] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    with FakeTriton() as triton:
        triton.unprompted = TALK
        with door_before(triton) as door:
            found = list(answers(door))
            with Talker(address(door)) as talker:
                everything(talker)
            found += [(published.of_event(event), event) for event in talker.events]
    for name, answer in found:
        checked[name] += 1
        faults.update((name, fault) for fault in published.faults(name, answer))
    for name, count in sorted(checked.items()):
        print(f"{count:4} {name}")
    for (name, fault), count in faults.items():
        print(f"{count:4} × {name}{fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
