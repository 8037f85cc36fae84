"""Real clients of HTTP before the live server: each gets the answer that gRPC gives."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.address import Ports, claim
from serving.door.door import Door
from tests.support.clips import clip, file_bytes, sound
from tests.support.long_answer import LONG
from tests.support.scrape import wait_until
from tests.support.wire import ask, text_of

HOST = "127.0.0.1"
TOKENS = 12


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def address(server: Door, verb: str = "generate_stream") -> str:
    return f"http://{HOST}:{server.ports.http}/v2/models/audio_flamingo/{verb}"


def uri(data: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body with a small clip."""
    file = tmp_path_factory.mktemp("http") / "body.json"
    body = {"audio": uri(clip(1.0, seed=3)), "prompt": "What is it?", "max_tokens": TOKENS}
    file.write_text(json.dumps(body))
    return file


@pytest.fixture(scope="module")
def expected(server: Door) -> str:
    return text_of(ask(server.url, [clip(1.0, seed=3)], "What is it?", parameters={"max_tokens": TOKENS}))


def text_in(events: str) -> str:
    found = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    assert found[-1]["finish_reason"]
    return "".join(event["text"] for event in found)


def run(*command: str, timeout_s: float = 120) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs("curl")
def test_curl_sends_a_clip_of_20_mb_and_reads_the_answer(server: Door, tmp_path: Path) -> None:
    data = file_bytes(sound(28, 48_000).reshape(-1, 1).repeat(8, axis=1), 48_000)
    assert len(data) > 20 << 20
    (tmp_path / "body.json").write_text(
        json.dumps({"audio": uri(data), "prompt": "What is it?", "max_tokens": TOKENS})
    )
    found = run(
        *("curl", "--silent", "--no-buffer", "--data-binary", f"@{tmp_path / 'body.json'}", address(server)),
    )
    assert text_in(found) == text_of(
        ask(server.url, [data], "What is it?", parameters={"max_tokens": TOKENS})
    )


@needs("curl")
def test_curl_speaks_http_1_0(server: Door, asked: Path, expected: str) -> None:
    found = run("curl", "--silent", "--http1.0", "--data-binary", f"@{asked}", address(server))
    assert text_in(found) == expected


def test_requests_sends_a_generator(server: Door, asked: Path, expected: str) -> None:
    program = """
import pathlib, requests, sys
body = pathlib.Path(sys.argv[2]).read_bytes()
parts = (body[at:at + 1000] for at in range(0, len(body), 1000))
reply = requests.post(sys.argv[1], data=parts, stream=True, timeout=60)
reply.raise_for_status()
for line in reply.iter_lines(decode_unicode=True):
    print(line)
"""
    pytest.importorskip("requests")
    assert text_in(run(sys.executable, "-c", program, address(server), str(asked))) == expected


@needs("node")
def test_node_fetch_sends_and_reads_a_stream(
    server: Door, asked: Path, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "fetch.mjs").write_text("""
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
const [url, file] = process.argv.slice(2);
const body = Readable.toWeb(createReadStream(file, { highWaterMark: 1000 }));
const reply = await fetch(url, { method: "POST", body, duplex: "half" });
if (!reply.ok) throw new Error(reply.status);
for await (const part of reply.body.pipeThrough(new TextDecoderStream())) process.stdout.write(part);
""")
    assert text_in(run("node", str(tmp_path / "fetch.mjs"), address(server), str(asked))) == expected


def test_chunked_json_as_dotnet_sends_it(server: Door, asked: Path, expected: str) -> None:
    """HttpClient.PostAsJsonAsync: no length, chunks of its 4 KB buffer, the last in a packet of its own."""
    body = asked.read_bytes()
    head = (
        "POST /v2/models/audio_flamingo/generate HTTP/1.1\r\n"
        f"Host: {HOST}\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((HOST, server.ports.http), timeout=60) as connection:
        connection.sendall(head.encode())
        for at in range(0, len(body), 4096):
            part = body[at : at + 4096]
            connection.sendall(b"%X\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        file = connection.makefile("rb")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        lengths = [
            int(line.split(b":")[1]) for line in iter(file.readline, b"\r\n") if b"content-length" in line
        ]
        assert json.loads(file.read(lengths[0]))["text"] == expected


@needs("ab")
def test_ab_keeps_its_connections(server: Door, asked: Path) -> None:
    command = ["ab", "-k", "-l", "-n", "40", "-c", "4", "-p", str(asked), "-T", "application/json"]
    found = run(*command, address(server, "generate"))
    assert "Failed requests:        0" in found
    assert "Non-2xx responses" not in found
    assert "Keep-Alive requests:    40" in found


@contextmanager
def nginx(server: Door, folder: Path, options: str) -> Iterator[str]:
    """nginx in front of the door, with its default settings and `options`."""
    port = claim(Ports(0, 0, 0), HOST).http
    own = "user root;" if os.geteuid() == 0 else ""  # its workers must reach the test's folder
    (folder / "nginx.conf").write_text(f"""
{own} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen {HOST}:{port};
        client_max_body_size 64m;
        location / {{ proxy_pass http://{HOST}:{server.ports.http}; {options} }}
    }}
}}
""")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex((HOST, port)) == 0

        wait_until(answers)
        yield f"http://{HOST}:{port}/v2/models/audio_flamingo/generate_stream"
    finally:
        process.terminate()
        process.wait(20)


@needs("nginx")
@needs("curl")
@pytest.mark.parametrize("options", ["", 'proxy_http_version 1.1; proxy_set_header Connection "";'])
def test_nginx_in_front_passes_events_on(
    options: str, server: Door, asked: Path, expected: str, tmp_path: Path
) -> None:
    with nginx(server, tmp_path, options) as url:
        for _ in range(2):
            assert (
                text_in(run("curl", "--silent", "--no-buffer", "--data-binary", f"@{asked}", url)) == expected
            )
        bad = run("curl", "--silent", "--data", '{"prompt": "?", "max_tokens": 5000}', url)
        assert "INVALID_ARGUMENT: parameter 'max_tokens'" in bad


@needs("nginx")
@needs("curl")
def test_a_client_that_leaves_nginx_is_stopped(server: Door, tmp_path: Path) -> None:
    body = json.dumps({"prompt": "Go on.", **LONG})
    with nginx(server, tmp_path, "") as url:
        process = subprocess.Popen(
            ["curl", "--silent", "--no-buffer", "--data", body, url], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(6) == b"data: "
        process.kill()
        process.wait()
        process.stdout.close()
        wait_until(lambda: server.admission.in_flight == 0)
