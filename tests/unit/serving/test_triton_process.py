"""How tritonserver is started, watched and cleaned up after, with a stand-in for it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.address import Ports, ServerError
from serving.host import triton
from serving.host.exit_watch import ExitWatch
from serving.host.triton import Server

WAIT_S = 30
# Two children that are named as Triton's Python stubs are, and a file in shared memory.
STAND_IN = """#!{python}
import os, pathlib, subprocess, sys, time
prefix = next(word for word in sys.argv if "shm-region-prefix-name=" in word).rpartition("=")[2]
pathlib.Path("/dev/shm", prefix + "region").touch()
for step in ("llm", "tts"):
    subprocess.Popen(["{stub}", "-c", "import time; time.sleep(1000)", "/models/" + step + "/1/model.py"])
pathlib.Path("up").touch()
time.sleep(1000)
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a tritonserver that serves nothing."""
    stub = tmp_path / "triton_python_backend_stub"
    stub.symlink_to(sys.executable)
    binary = tmp_path / "tritonserver"
    binary.write_text(STAND_IN.format(python=sys.executable, stub=stub))
    binary.chmod(0o755)
    monkeypatch.setattr(triton, "_server_binary", lambda: (binary, tmp_path))
    monkeypatch.setattr(triton, "EXIT_TIMEOUT_S", 0)
    return tmp_path


@pytest.fixture
def server(stand_in: Path) -> Iterator[Server]:
    with Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0)) as running:
        until(lambda: (stand_in / "up").exists() and len(running.steps()) == 2)
        yield running


def test_the_steps_are_found_by_their_names(server: Server) -> None:
    assert sorted(server.steps().values()) == ["llm", "tts"]


def test_every_step_is_started_at_once_and_only_once(server: Server) -> None:
    words = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
    steps = list(triton.REPOSITORY.glob("model_repository/*/1/model.py"))
    (threads,) = (word for word in words if word.startswith("--model-load-thread-count="))
    assert int(threads.partition("=")[2]) == len(steps) > 4  # Triton's own number
    assert "--disable-auto-complete-config" in words


def test_the_step_that_dies_is_named_at_once(server: Server) -> None:
    (pid,) = [pid for pid, name in server.steps().items() if name == "tts"]
    with server.exit_watch() as watch:
        assert watch.wait(0.05) is None
        os.kill(pid, signal.SIGKILL)
        assert watch.wait(WAIT_S) == "tts"


def test_the_end_of_the_server_itself_is_seen(server: Server) -> None:
    with server.exit_watch() as watch:
        os.kill(server.pid, signal.SIGKILL)
        assert watch.wait(WAIT_S) == "tritonserver"
    assert server.exit_code == -signal.SIGKILL


def test_watching_needs_no_new_file_handle(server: Server) -> None:
    """The process may have run out of them, and must not end or take a living step for a dead one."""
    with server.exit_watch() as watch:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            assert watch.wait(0) is None
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_process_that_had_ended_before_is_found(tmp_path: Path) -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    with ExitWatch({done.pid: "gone"}) as watch:
        assert watch.wait(0) == "gone"


def test_a_start_runs_nothing_of_ours_between_fork_and_exec(stand_in: Path) -> None:
    """Fork handlers run in the child of a real fork; those of gRPC may end it there (SIGABRT)."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    with Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0)):
        until((stand_in / "up").exists)
    assert forks == []


def test_a_server_starts_beside_working_grpc_threads(stand_in: Path) -> None:
    """In a process of its own: gRPC keeps its fork handlers for good."""
    script = f"""
import grpc, pathlib, sys, time
from concurrent import futures
from serving.address import Ports, ServerError
from serving.host import triton
from serving.host.triton import Server
backend = grpc.server(futures.ThreadPoolExecutor(2))
port = backend.add_insecure_port("127.0.0.1:0")
backend.start()
channel = grpc.insecure_channel(f"127.0.0.1:{{port}}")
call = channel.unary_unary("/none/None")
folder = pathlib.Path({str(stand_in)!r})
triton._server_binary = lambda: (folder / "tritonserver", folder)
triton.EXIT_TIMEOUT_S = 0
for turn in range(5):
    pending = [call.future(b"", timeout=5) for _ in range(50)]
    (folder / "up").unlink(missing_ok=True)
    with Server("cpu", folder, folder / "log", Ports(0, 0, 0)) as server:
        while not (folder / "up").exists():
            assert server.exit_code is None, server.exit_code
            time.sleep(0.01)
    for one in pending:
        one.exception()
print("well")
"""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment | {"GRPC_ENABLE_FORK_SUPPORT": "1"},
    )
    assert done.stdout.strip() == "well", done.stderr


def test_the_server_ends_when_its_launcher_is_killed(stand_in: Path) -> None:
    script = f"""
import pathlib, time
from serving.address import Ports, ServerError
from serving.host import triton
from serving.host.triton import Server
folder = pathlib.Path({str(stand_in)!r})
triton._server_binary = lambda: (folder / "tritonserver", folder)
server = Server("cpu", folder, folder / "log", Ports(0, 0, 0))
print(server.pid, flush=True)
time.sleep(1000)
"""
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    until((stand_in / "up").exists)
    launcher.kill()
    launcher.communicate()
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    subprocess.run(
        ["sh", "-c", f"kill -9 -{pid} 2>/dev/null"], check=False
    )  # its children, which have no parent left


def test_nothing_is_left_in_shared_memory(stand_in: Path) -> None:
    with Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0)) as running:
        until((stand_in / "up").exists)
        prefix = triton._shm_prefix(running.ports)
        assert list(triton.SHARED_MEMORY.glob(f"{prefix}*"))
    assert not list(triton.SHARED_MEMORY.glob(f"{prefix}*"))


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_what_another_user_left_in_shared_memory_stops_no_start(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    memory = stand_in / "shm"
    memory.mkdir()
    # Not the machine's own: a server that another test starts meanwhile would sweep it.
    monkeypatch.setattr(triton, "SHARED_MEMORY", memory)
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = triton.SHARED_MEMORY / f"af3-{triton._pid_namespace()}-{dead.pid}-1-x"
    strange = triton.SHARED_MEMORY / f"af3-{triton._pid_namespace()}-x"
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == left:
            raise error(path)
        unlink(path, missing_ok)

    left.touch()
    strange.touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0)):
            pass
    assert left.exists() and strange.exists()
    with Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0)):
        pass
    assert not left.exists()


def test_an_exit_watch_may_be_waited_for_while_others_work() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    with ExitWatch({process.pid: "it"}) as watch:
        threading.Timer(0.2, process.kill).start()
        assert watch.wait(WAIT_S) == "it"
    process.wait()


@pytest.mark.parametrize("name", ["two words", "a$(b)", "it's", "a;b"])
def test_a_path_that_tritons_shell_would_take_apart_is_refused(stand_in: Path, name: str) -> None:
    with pytest.raises(ServerError, match="move the folder"):
        Server("cpu", stand_in, stand_in / "log", Ports(0, 0, 0), models=stand_in / name)
    assert not (stand_in / "up").exists()


def test_the_steps_keep_memory_for_the_next_request_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    environment = triton._environment()
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) > 4 * 30 * 16_000  # a window's samples
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "1"
