"""Metrics that several threads change, with a stand-in for Triton's module, which exists only in its processes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import pb_utils_stand_in

# isort: split
from serving.steps import adapter


class TritonMetric:
    """Like Triton's: must not be used by two threads at once."""

    def __init__(self) -> None:
        self._inside = threading.Lock()
        self.calls = 0

    def change(self, value: float) -> None:
        assert self._inside.acquire(blocking=False), "two threads in one metric"
        threading.Event().wait(0.001)  # the round trip, in which Triton lets other threads run
        self.calls += 1
        self._inside.release()

    set = increment = observe = change


class Family:
    """As `pb_utils.MetricFamily`."""

    GAUGE, COUNTER, HISTOGRAM = range(3)

    def __init__(self, name: str, description: str, kind: int):
        self.kind = kind

    def Metric(self, labels: dict[str, str], **options: object) -> TritonMetric:
        assert (self.kind == self.HISTOGRAM) == isinstance(options.get("buckets"), list)
        return TritonMetric()


@pytest.mark.parametrize(
    ("kind", "change"), [("gauge", "set"), ("counter", "increment"), ("histogram", "observe")]
)
def test_a_metric_is_changed_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: str
) -> None:
    assert adapter.pb_utils.MetricFamily is pb_utils_stand_in.MetricFamily
    monkeypatch.setattr(adapter.pb_utils, "MetricFamily", Family)
    metric = getattr(adapter, kind)("af3_test", "A test")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(getattr(metric, change), range(40)))
    assert metric._metric.calls == 40
