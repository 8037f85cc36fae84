"""A tritonserver that is ready, with a second try where chance ended the first, as the launcher has one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.address import Ports, ServerCrashed, ServerError
from serving.host.probe import answers
from serving.host.triton import Server

TRIES = 3
PORT_LOST = "already in use"  # a port from the operating system was another's before Triton listened


@contextmanager
def ready_server(
    folder: Path,
    log: Path | None = None,
    config: str = "cpu",
    ready: Callable[[Server], bool] = lambda server: answers(server.url),
    timeout_s: float = 120,
    extra: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Serves the configs `config` from `folder`; its log is `folder`/server.log unless given.

    A start is tried again when a signal ended the server or a port was lost: Triton 2.51 aborts now and then while it
    starts on a machine whose cores are all taken. Raises ServerError as `Server.wait_until` does.
    """
    server = _start(folder, log or folder / "server.log", config, ready, timeout_s, extra)
    with server:
        yield server


def _start(
    folder: Path,
    log: Path,
    config: str,
    ready: Callable[[Server], bool],
    timeout_s: float,
    extra: tuple[str, ...],
) -> Server:
    for left in reversed(range(TRIES)):
        server = Server(config, folder, log, Ports(0, 0, 0), extra=extra)
        try:
            server.wait_until(lambda: ready(server), timeout_s)  # noqa: B023  called within this turn
        except BaseException as error:
            server.stop()
            if not left or not _by_chance(error):
                raise
            log.rename(log.with_suffix(f".{left}.log"))
        else:
            return server
    raise AssertionError("TRIES is 0")


def _by_chance(error: BaseException) -> bool:
    return isinstance(error, ServerCrashed) or (isinstance(error, ServerError) and PORT_LOST in str(error))
