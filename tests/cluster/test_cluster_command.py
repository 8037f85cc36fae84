"""`make cluster`: what it says, that it answers there, and that nothing of it is left."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from deploy.loopback import ended, wait_for
from tests.support.engines import BuiltEngines
from tests.support.processes import alive, children

SERVERS = 2


def started(folder: Path, errors: int | None = None) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "deploy.cluster", "--servers", str(SERVERS), "--folder", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)


def test_it_says_where_to_ask_and_ctrl_c_stops_all(
    envoy: Path, engines: BuiltEngines, tmp_path: Path
) -> None:
    (tmp_path / "engines").symlink_to(engines.engines.parent)
    process = started(tmp_path)
    assert process.stdout is not None
    try:
        said = "".join(process.stdout.readline().decode() for _ in range(4 + SERVERS))
        assert len(re.findall(r"^  server +http://\S+/metrics$", said, re.MULTILINE)) == SERVERS, said
        (http,) = re.findall(r"^  HTTP +(\S+)$", said, re.MULTILINE)
        body = json.dumps({"prompt": "Hello", "max_tokens": 4}).encode()
        url = f"{http}/v2/models/audio_flamingo/generate"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert json.loads(reply.read())["finish_reason"] in ("stop", "length")
        family = children(process.pid)
        assert len(family) > SERVERS
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"stopped\n"
        assert process.wait(10) == 0
        assert wait_for(lambda: not any(map(alive, family)), 30), family
    finally:
        ended(process, 90)


def test_without_engines_it_ends_with_what_to_do(envoy: Path, tmp_path: Path) -> None:
    process = started(tmp_path, subprocess.PIPE)
    try:
        said, errors = process.communicate(timeout=120)
    finally:
        ended(process, 90)
    assert (process.returncode, said) == (1, b"")
    assert b"make engines" in errors
    assert b"Traceback" not in errors
