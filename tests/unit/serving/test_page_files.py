"""The page as a browser gets it."""

import gzip
import re

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.door.browser_check import BrowserCheck
from serving.door.page.page_files import BUILT, PageFiles


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=PageFiles().routes))


def test_everything_the_page_loads_is_there(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:src|href)="?([^"\s>]+)', page.text)
    assert len(loaded) >= 3
    for path in [*loaded, "/assets/worklets.js"]:
        assert path.startswith("/")
        assert client.get(path).status_code == 200


def test_nothing_runs_or_loads_but_what_comes_from_here(client):
    for path in ("/", "/assets/page.js"):
        headers = client.get(path).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|<style| style=| on\w+=", client.get("/").text)


def test_an_unchanged_page_is_not_sent_again(client):
    for coding in ("identity", "gzip"):
        first = client.get("/", headers={"accept-encoding": coding})
        again = client.get("/", headers={"accept-encoding": coding, "if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        weak = {"accept-encoding": coding, "if-none-match": f'"x", W/{first.headers["etag"]}'}
        assert client.get("/", headers=weak).status_code == 304
        stale = {"accept-encoding": coding, "if-none-match": '"x"'}
        assert client.get("/", headers=stale).status_code == 200


def test_a_compressed_page_has_an_etag_of_its_own(client):
    plain = client.get("/", headers={"accept-encoding": "identity"})
    with client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        raw = b"".join(packed.iter_raw())
    assert gzip.decompress(raw) == plain.content == (BUILT / "index.html").read_bytes()
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == "accept-encoding"


def test_head_tells_what_get_would_send(client):
    asked = {"accept-encoding": "identity"}
    head, get = client.head("/", headers=asked), client.get("/", headers=asked)
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/assets/../page_files.py", "/assets/", "/static/index.html", "/built_from.json"]
)
def test_no_other_file_is_reachable(client, path):
    assert client.get(path).status_code == 404


def test_the_page_is_read_only(client):
    assert client.post("/").status_code == 405


def test_the_page_loads_by_any_name_and_nothing_else_does():
    """Chromium sends Origin with the scripts of a page: a page that may not call must load to say so."""
    page = PageFiles()
    other = Route("/v1/models", lambda request: Response("secret"), methods=["GET", "POST"])
    app = Starlette(routes=[*page.routes, other])
    client = TestClient(BrowserCheck((), page.paths).middleware(app), base_url="http://box.test:8000")
    named = {"origin": "http://box.test:8000"}
    assert len(page.paths) >= 5
    for path in page.paths:
        answer = client.get(path, headers=named)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers  # other pages may load it and not read it
        assert client.post(path, headers=named).status_code == 403
    for path in ("/v1/models", "/assets/", "/assets/other.js"):
        assert client.get(path, headers=named).status_code == 403
    assert client.get("/v1/models").status_code == 200
