"""When the supervisor gives up a first start; all else of it is tested on a live server (tests/e2e)."""

from types import SimpleNamespace

import pytest

from serving.address import ServerCrashed, ServerError
from serving.host.supervisor import Patience, Supervisor


@pytest.mark.parametrize(("error", "starts"), [(ServerError, 1), (ServerCrashed, 2)])
def test_a_first_start_is_tried_again_after_a_crash_and_only_then(
    error: type[ServerError], starts: int
) -> None:
    tried = []
    restarts = []
    door = SimpleNamespace(
        admission=SimpleNamespace(ready=False),
        metrics=SimpleNamespace(restarts=SimpleNamespace(add=restarts.append)),
    )

    def start() -> None:
        tried.append(1)
        raise error("tritonserver ended with code -6")

    supervisor = Supervisor(door, start, Patience(start=1.0, first_backoff=0.0), say=lambda line: None)
    with pytest.raises(ServerError):
        supervisor.run(on_ready=lambda: None)
    assert len(tried) == starts
    assert len(restarts) == starts - 1
