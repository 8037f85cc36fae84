"""One tritonserver process: started, watched until it is ready, stopped by its own id."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from af3 import contract
from serving import audio_usage, heartbeat
from serving.address import DEFAULT_PORTS, KEY_HEADER, Ports, ServerCrashed, ServerError, claim
from serving.host.exit_watch import ExitWatch
from serving.machine import install
from serving.steps import prompt_sizes

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL_REPOSITORY = REPOSITORY / "model_repository"
EXIT_TIMEOUT_S = 10
CLOSED_TO_ALL = ("shared-memory", "model-repository", "trace", "logging")
CLOSED_BY_KEY = ("health", "metadata", "inference", "model-config", "statistics")
SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"
TRITON = "tritonserver"
# The arrays of the next request lie where those of the last one did. By default glibc gave their pages back after
# every request, and a clip of 29 s cost preprocess 2 000 page faults, 4.5 ms.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
CHILD = Path(__file__).with_name("child.py")
# Triton's Python backend gives these paths to a shell, unquoted.
UNQUOTED = re.compile(r"""[\s"'$&|;<>()*?\[\]{}!#\\`]""")


class Server:
    """A running tritonserver; use it as a context manager so that it is always stopped.

    config: name of the configs to serve (`<model>/configs/<config>.pbtxt`).
    folder: working directory; the configs name engines relative to it.
    log: file that takes the server's own output.
    key: without it, in a header, nothing is answered but /metrics; "" leaves inference open to who reaches the
        port, as tests and measurements need it. Shared memory, model control, tracing and log settings are
        closed either way. Like all options of tritonserver it can be read by other users of the machine.
    models: the model repository.
    usage_socket: where the steps tell the door how long clips are; "" for nowhere.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        log: Path,
        ports: Ports = DEFAULT_PORTS,
        host: str = "127.0.0.1",
        extra: tuple[str, ...] = (),
        key: str = "",
        models: Path = MODEL_REPOSITORY,
        usage_socket: str = "",
    ):
        self.host = host
        self.ports = claim(ports, host)
        self.log = log
        self.key = key
        _sweep_shared_memory()
        command = [*_command(config, models, self.ports, host), *_restrictions(key), *extra]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                dependent(command),
                cwd=folder,
                env=_environment()
                | {
                    heartbeat.VARIABLE: self._heartbeats,
                    prompt_sizes.VARIABLE: self._prompt_sizes,
                    audio_usage.VARIABLE: usage_socket,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for us; the server is told to finish its requests first.
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """gRPC address, as clients take it."""
        return f"{self.host}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Poll `ready` until it is true; then no other user can read what the server holds in shared memory.

        Raises ServerError when the server ends first or time is up.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                kind = ServerCrashed if self._process.returncode < 0 else ServerError
                raise kind(f"tritonserver ended with code {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > end:
                raise ServerError(f"not ready after {timeout_s:.0f} s; see {self.log}:\n{self._log_tail()}")
            time.sleep(0.1)
        self._hide_shared_memory()

    @property
    def exit_code(self) -> int | None:
        """None while the server runs."""
        return self._process.poll()

    def steps(self) -> dict[int, str]:
        """The processes of the Python steps that are alive, and the names of their steps."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) != self.pid or state == "Z":
                    continue
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if STUB in command:
                    model = re.search(r"/(\w+)/1/model\.py", command)
                    found[int(entry.name)] = model[1] if model else "?"
        return found

    def exit_watch(self) -> ExitWatch:
        """A watch on the processes of the server and of its steps, by the steps' names."""
        return ExitWatch({self.pid: TRITON} | self.steps())

    def pulses(self) -> list[heartbeat.Pulse]:
        """The signs of life of the Python steps."""
        return heartbeat.pulses(self._heartbeats)

    def _hide_shared_memory(self) -> None:
        """Requests pass through shared memory, which Triton creates readable for every user, whatever the umask."""
        for region in _shared(f"{_shm_prefix(self.ports)}*"):
            with suppress(OSError):
                region.chmod(0o600)

    @property
    def _heartbeats(self) -> str:
        return str(SHARED_MEMORY / f"{_shm_prefix(self.ports)}heart-")

    @property
    def _prompt_sizes(self) -> str:
        return str(SHARED_MEMORY / f"{_shm_prefix(self.ports)}prompt-")

    def stop(self) -> None:
        """SIGTERM, requests in flight finish, then the process ends; killed if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_TIMEOUT_S + 5)
        self.kill()

    def kill(self) -> None:
        """End the process at once, with its steps and what they hold in shared memory."""
        # The steps are processes of their own; none may outlive the server.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Left behind by a killed server or a killed step.
        _remove(f"{_shm_prefix(self.ports)}*")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        return "\n".join((telling or lines)[-8:])


def dependent(command: Sequence[str]) -> list[str]:
    """The command, as a process that is told to end when the thread that starts it is gone, however it goes."""
    return [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), *command]


def _command(config: str, models: Path, ports: Ports, host: str) -> list[str]:
    binary, backends = _server_binary()
    for path in (models, backends):
        if found := UNQUOTED.search(str(path)):
            raise ServerError(
                f"{path}: Triton's Python backend cannot start a step from a path with {found[0]!r} in it;"
                " move the folder to one without"
            )
    return [
        str(binary),
        f"--model-repository={models}",
        f"--model-config-name={config}",
        f"--backend-directory={backends}",
        f"--grpc-address={host}",
        f"--http-address={host}",
        f"--metrics-address={host}",
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        "--model-control-mode=none",
        # The configs are complete. To look for more, Triton starts every Python step once without loading it.
        "--disable-auto-complete-config",
        # Triton's 4 would start the fifth step when another is ready.
        f"--model-load-thread-count={len(contract.AUDIO_FLAMINGO_SPEECH.steps)}",
        f"--backend-config=python,shm-region-prefix-name={_shm_prefix(ports)}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
    ]


def _shm_prefix(ports: Ports) -> str:
    return f"af3-{_pid_namespace()}-{os.getpid()}-{ports.grpc}-"


def _pid_namespace() -> int:
    """Process ids mean something only within theirs; containers may share /dev/shm and nothing else."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _sweep_shared_memory() -> None:
    """Remove what servers left whose launcher was killed: the id of a process that is no more is in the name."""
    for left in _shared(f"af3-{_pid_namespace()}-*"):
        owner = left.name.split("-")[2]
        if owner.isdigit() and not Path("/proc", owner).exists():
            with suppress(OSError):  # another user's
                left.unlink()


def _remove(pattern: str) -> None:
    for left in _shared(pattern):
        with suppress(OSError):  # gone, or another user's
            left.unlink()


def _shared(pattern: str) -> list[Path]:
    """Files in shared memory; none when there is no file handle left to look."""
    try:
        return list(SHARED_MEMORY.glob(pattern))
    except OSError:
        return []


def _restrictions(key: str) -> list[str]:
    """Triton's endpoints, closed by kind: to all without the key, or for good where there is none."""
    kinds = ",".join(CLOSED_TO_ALL if not key else (*CLOSED_TO_ALL, *CLOSED_BY_KEY))
    secret = key or secrets.token_hex(16)
    return [
        f"--grpc-restricted-protocol={kinds}:{KEY_HEADER}={secret}",
        f"--http-restricted-api={kinds}:{KEY_HEADER}={secret}",
    ]


def _server_binary() -> tuple[Path, Path]:
    if install.CONTAINER_SERVER.is_file():
        return install.CONTAINER_SERVER, install.CONTAINER_SERVER.parent.parent / "backends"
    if install.SERVER.is_file():
        return install.SERVER, install.BACKENDS
    raise ServerError("tritonserver is not installed; run `make setup`")


def _environment() -> dict[str, str]:
    """The Python backend embeds the interpreter of the first python3 on PATH, with its packages."""
    libraries = (
        [str(install.LIBRARIES), _libpython_folder()] if not install.CONTAINER_SERVER.is_file() else []
    )
    own = {
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH")])),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return KEPT_MEMORY | os.environ | own


def _libpython_folder() -> str:
    """The stub needs libpython as a shared library, which not every Python brings."""
    name = f"libpython3.{sys.version_info.minor}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
    for folder in filter(None, folders):
        if (Path(folder) / name).is_file():
            return str(folder)
    raise ServerError(
        f"{name} is missing, which Triton's Python backend loads; install the package"
        f" libpython3.{sys.version_info.minor} (Debian, Ubuntu), or a Python that was built shared, then `make setup`"
    )
