"""/openapi.json, and /docs: the same as a page, without a script and without anything from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from serving.door.openai.openapi_document import openapi_document

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
tr { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent) }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
"""


class OpenApiPages:
    """Made once: nothing in them changes while a server runs."""

    def __init__(self, version: str):
        document = openapi_document(version)
        self._json = json.dumps(document).encode()
        self._html = _page(document)
        self.routes: list[BaseRoute] = [
            Route("/openapi.json", self._document, methods=["GET"]),
            Route("/docs", self._docs, methods=["GET"]),
        ]

    async def _document(self, request: Request) -> Response:
        return Response(self._json, media_type="application/json")

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(self._html, headers=HEADERS)


def _page(document: dict[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    parts = [f"<h1>{escape(document['info']['title'])}</h1>"]
    parts.append(f"<p>{escape(document['info']['description'])} <a href='openapi.json'>openapi.json</a></p>")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}.</p>")
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                parts.append(f"<p>Body: <code>{escape(kind)}</code></p>")
                parts.append(_fields(schemas[body["schema"]["$ref"].rpartition("/")[2]]))
            parts.append(_replies(operation["responses"]))
    for name, schema in sorted(schemas.items()):
        if schema.get("type") == "object" and not name.endswith(("Request", "Form")):
            parts.append(f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_fields(schema)}")
    head = "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    return f"{head}<title>The OpenAI API</title><style>{STYLE}</style><main>{''.join(parts)}</main></html>"


def _fields(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in schema.get('required', ()) else ''}"
        f"<td><code>{escape(_kind(field))}</code><td>{escape(field.get('description', ''))}"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table><tr><th>field (* needed)<th>values<th>{rows}</table>"


def _replies(responses: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(code)}<td>{escape(reply['description'])}"
        f"<td><code>{escape(', '.join(reply['content']))}</code>"
        for code, reply in responses.items()
    )
    return f"<table><tr><th>status<th><th>{rows}</table>"


def _kind(field: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " | ".join(_kind(one) for one in field[several])
    if "enum" in field or "const" in field:
        return " | ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}
    found = [f"{sign} {field[name]}" for name, sign in bounds.items() if name in field]
    return " ".join([str(field.get("type", "any")), *found])
