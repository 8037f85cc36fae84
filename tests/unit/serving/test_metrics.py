"""Metrics that several threads change, with a stand-in for Triton's module, which exists only in its processes."""

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest


class TritonMetric:
    """As Triton's: not for two threads at once."""

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


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    stand_in = SimpleNamespace(MetricFamily=Family)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.delitem(sys.modules, "serving.steps.adapter", raising=False)
    return importlib.import_module("serving.steps.adapter")


@pytest.mark.parametrize(
    ("kind", "change"), [("gauge", "set"), ("counter", "increment"), ("histogram", "observe")]
)
def test_a_metric_is_changed_by_one_thread_at_a_time(adapter: ModuleType, kind: str, change: str) -> None:
    metric = getattr(adapter, kind)("af3_test", "A test")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(getattr(metric, change), range(40)))
    assert metric._metric.calls == 40
