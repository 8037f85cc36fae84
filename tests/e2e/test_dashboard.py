"""The dashboard asks for names that the live server has."""

import json
import re
from pathlib import Path

import pytest

from serving.door.door import Door
from tests.support import scrape
from tests.support.clips import clip
from tests.support.long_answer import LONG
from tests.support.wire import Refused, Stream, ask

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "audio-flamingo.json"
# Of a GPU, and of the TensorRT-LLM backend: not here.
ELSEWHERE = re.compile(r"nv_gpu_\w+|nv_trt_llm_\w+")


def test_every_name_on_the_dashboard_is_on_metrics(server: Door) -> None:
    ask(server.url, [clip(0.5)], "What is it?", parameters={"max_tokens": 4})
    spoken = {"max_tokens": 4}
    assert list(Stream(server.url, prompt="Hi.", parameters=spoken, model="audio_flamingo_speech").results())
    stream = Stream(server.url, prompt="Go on.", parameters=LONG)
    next(iter(stream))
    stream.cancel()
    with pytest.raises(Refused):
        ask(server.url, prompt="?", model="llm")
    expressions = re.findall(r'"expr": "(.*)"', DASHBOARD.read_text())
    asked = {name for text in expressions for name in re.findall(r"\b(?:af3|nv)_\w+", text)}
    asked = {name for name in asked if not ELSEWHERE.fullmatch(name)}

    def there() -> set[str]:
        return {sample.partition("{")[0] for sample in scrape.read(server)}

    assert len(asked) > 15
    print("not there yet:", asked - there())
    scrape.wait_until(lambda: asked <= there())


def test_every_panel_has_a_title_a_place_of_its_own_and_a_question() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    assert all(panel["title"] and panel["targets"] for panel in panels)
