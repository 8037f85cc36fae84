"""docker/Dockerfile.cpu, built and run for real: healthy, an answer, not root, gone on SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from serving.host.probe import answers
from tests.support import containers
from tests.support.engines import BuiltEngines

START_TIMEOUT_S = 120
pytestmark = pytest.mark.skipif(containers.missing() is not None, reason=str(containers.missing()))


class Running:
    """A container made from the image, started as Docker would start it."""

    def __init__(self, engines: Path, ports: tuple[int, int, int]):
        self.container = containers.buildah("from", containers.IMAGE)
        self.config = json.loads(containers.buildah("inspect", self.container))["Docker"]["config"]
        grpc, http, metrics = map(str, ports)
        words = [*self.config["Entrypoint"], *self.config["Cmd"]]
        words[words.index("0.0.0.0")] = "127.0.0.1"
        words += ["--grpc-port", grpc, "--http-port", http, "--metrics-port", metrics]
        mount = f"{engines}:/opt/audio-flamingo/engines:ro"
        self.process = subprocess.Popen(
            containers.command("run", "--network", "host", "--volume", mount, self.container, "--", *words),
            env=containers.ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.url = f"127.0.0.1:{grpc}"

    def server_pids(self) -> list[int]:
        """The processes of the container: everything below buildah's own two."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        children: dict[int, list[int]] = {}
        for line in listed.stdout.splitlines():
            pid, parent = map(int, line.split()[:2])
            children.setdefault(parent, []).append(pid)
        found, pending = [], [self.process.pid]
        while pending:
            pending += (below := children.get(pending.pop(), []))
            found += below
        return [pid for pid in found if "buildah" not in arguments_of(pid)[0]]

    def launcher(self) -> int:
        """What Docker would call process 1: the entrypoint."""
        for pid in self.server_pids():
            if "serving.host.launch" in arguments_of(pid):
                return pid
        raise AssertionError("the entrypoint is not running")

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        containers.buildah("rm", self.container)


def arguments_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


@pytest.fixture(scope="module")
def running(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The server in its container, ready."""
    containers.build_base(tmp_path_factory.mktemp("base"))
    containers.build_image()
    started = Running(engines.engines.parent, free_ports())
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not answers(started.url):
            assert started.process.poll() is None, started.process.stdout.read()
            assert time.monotonic() < end, "not ready"
            time.sleep(0.2)
        yield started
    finally:
        started.close()


def free_ports() -> tuple[int, int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports[0], ports[1], ports[2]


def test_the_container_answers_a_question_about_a_sound(running):
    assert answers(running.url)


def test_the_health_check_of_the_image_passes_inside_it(running):
    words = running.config["Healthcheck"]["Test"][1:]
    inside = ["run", "--network", "host", running.container, "--", *words, "--url", running.url]
    assert containers.buildah(*inside) == "ready"
    assert running.config["Healthcheck"]["StartPeriod"] >= 60_000_000_000


def test_nothing_in_the_container_runs_as_root(running):
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in running.server_pids()}
    assert owners == {10001}


def test_the_image_holds_no_engines_and_no_weights(running):
    inside = ["run", running.container, "--", "sh", "-c", "ls; find . -size +5M"]
    listed = containers.buildah(*inside).split()
    assert {"af3", "model_repository", "serving"} <= set(listed)
    assert not {"tests", ".git", ".venv"} & set(listed)
    assert not [name for name in listed if name.endswith((".onnx", ".safetensors", ".data"))]


def test_it_leaves_on_sigterm_and_takes_its_server_along(running):
    pids = running.server_pids()
    os.kill(running.launcher(), signal.SIGTERM)
    assert running.process.wait(timeout=60) == 0
    assert "stopped" in running.process.stdout.read()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
