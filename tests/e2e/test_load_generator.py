"""The load generator against the live server: every kind of client is served, and nothing is left behind."""

import asyncio

from perf import load
from perf.place import Place
from serving.door.door import Door

MIX = load.Mix(sessions=1, cancelling=2, slow=1, burst=4, max_tokens=24, seconds=1.5)


def test_every_kind_of_client_is_served_and_nothing_is_left_behind(url: str, server: Door) -> None:
    outcomes = asyncio.run(asyncio.wait_for(load.run(url, MIX), 90))
    assert load.errors(outcomes) == []
    by_kind = {kind: [one for one in outcomes if one.kind == kind] for kind in ("session", "slow", "burst")}
    assert len(by_kind["session"]) % len(load.QUESTIONS) == 0
    assert all(outcome.tokens for kind in by_kind.values() for outcome in kind)
    assert {"CANCELLED"} <= {outcome.status for outcome in outcomes if outcome.kind == "cancelling"}
    metrics_url = f"http://{server.host}:{server.ports.metrics}/metrics"
    assert load.left_behind(Place(url, metrics_url)) == {}
