"""/openapi.json and /docs say what the models that read requests say, and what the steps let through."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from af3.parameters import Parameters
from clients.version import VERSION
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.door.openai.openapi_document import RANGES, openapi_document
from tests.support.fake_triton import FakeTriton
from tests.support.openai_api import body, post, request

SAME = {"max_completion_tokens": "max_tokens", "speed": "rate"}
DOCUMENT = openapi_document(VERSION)
SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with (
        FakeTriton() as triton,
        Door(TritonAddress(triton.ports, ""), "127.0.0.1", claim(Ports(0, 0, 0), "127.0.0.1")) as made,
    ):
        made.admission.ready = True
        yield made


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"timeout"}))
def test_ranges_are_those_of_the_steps(name: str) -> None:
    theirs = Parameters.model_json_schema()["properties"][SAME.get(name, name)]
    theirs = theirs.get("anyOf", [theirs])[0]
    bounds = {key: theirs[key] for key in theirs if "inimum" in key or "aximum" in key}
    assert RANGES[name] == bounds


def test_every_reference_leads_somewhere() -> None:
    def names(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for one in value.values():
                yield from names(one)
        if isinstance(value, list):
            for one in value:
                yield from names(one)

    assert {name.rpartition("/")[2] for name in names(DOCUMENT)} <= set(SCHEMAS)


def test_the_server_gives_the_document(door: Door) -> None:
    reply = request(door, "GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"], reply.json) == (200, "application/json", DOCUMENT)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_names_every_path_and_field_and_loads_nothing(door: Door) -> None:
    reply = request(door, "GET", "/docs")
    page = _Page()
    page.feed(reply.body.decode())
    for path in DOCUMENT["paths"]:
        assert path in page.text
    for name in SCHEMAS["ChatRequest"]["properties"]:
        assert name in page.text
    assert "script" not in page.tags
    assert page.addresses == ["openapi.json"]
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_examples_are_answered(door: Door) -> None:
    (example,) = SCHEMAS["ChatRequest"]["examples"]
    assert post(door, "/v1/chat/completions", example).status == 200


def test_an_unsupported_field_may_have_the_values_that_change_nothing(door: Door) -> None:
    for name, field in SCHEMAS["ChatRequest"]["properties"].items():
        for value in field.get("enum", ()):
            if "not done" in field.get("description", ""):
                reply = post(door, "/v1/chat/completions", body(**{name: value}))
                assert reply.status == 200, json.dumps({name: value})
