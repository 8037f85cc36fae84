"""A quarter of a minute of what `python -m tests.soak` does for half an hour."""

from functools import partial

from serving.door.door import Door
from tests.e2e.test_streams import idle
from tests.soak import CLIENTS, Traffic
from tests.support import scrape

SECONDS = 12


def test_under_mixed_traffic_every_answer_is_the_expected_one(server: Door) -> None:
    traffic = Traffic(server.url, f"http://{server.host}:{server.ports.http}")
    traffic.prepare()
    traffic.run(SECONDS)
    print(traffic.seen)
    assert traffic.wrong == []
    assert traffic.failed == []
    assert {f"{kind}: as expected" for kind in CLIENTS} <= set(traffic.seen)
    scrape.wait_until(partial(idle, server))
