"""Triton with the real steps, except that `llm` is a file of this folder, and a door before it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perf.place import Place
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.probe import answers
from serving.host.triton import MODEL_REPOSITORY, Server

STEPS = ("audio_flamingo", "preprocess", "audio_encoder", "postprocess")
HOST = "127.0.0.1"


@contextmanager
def server(
    source: str, steps: Sequence[str] = STEPS, most_responses_per_s: int | None = None
) -> Iterator[Place]:
    """Serve `steps` on Triton, with the file `source` as the model.py of `llm`.

    most_responses_per_s: overrides the setting of postprocess.
    """
    with tempfile.TemporaryDirectory(prefix="af3-perf-") as name:
        models = Path(name) / "models"
        for step in steps:
            (models / step).mkdir(parents=True)
            for entry in (MODEL_REPOSITORY / step).iterdir():
                (models / step / entry.name).symlink_to(entry)
        if most_responses_per_s is not None:
            _override(models / "postprocess", "most_responses_per_s", most_responses_per_s)
        (models / "llm" / "1").mkdir(parents=True)
        (models / "llm" / "configs").symlink_to(MODEL_REPOSITORY / "llm" / "configs")
        (models / "llm" / "1" / "model.py").symlink_to(Path(__file__).with_name(source))
        with Server("cpu", Path.cwd(), Path(name) / "log", Ports(0, 0, 0), models=models) as server:
            server.wait_until(lambda: answers(server.url), 60)
            yield Place(server.url, f"http://{HOST}:{server.ports.metrics}/metrics", server.pid)


def _override(step: Path, key: str, value: int) -> None:
    """Replace the link to the CPU config by a copy with another value."""
    config = (step / "configs" / "cpu.pbtxt").read_text()
    changed = re.sub(rf'(key: "{key}" value: {{ string_value: ")[^"]*', rf"\g<1>{value}", config)
    (step / "configs").unlink()
    (step / "configs").mkdir()
    (step / "configs" / "cpu.pbtxt").write_text(changed)


@contextmanager
def door(triton: Place) -> Iterator[Place]:
    """Run the door before it in this process; processor time is measured for Triton only."""
    grpc = int(triton.url.rpartition(":")[2])
    metrics = int((triton.metrics_url or "").rpartition(":")[2].partition("/")[0])
    with Door(TritonAddress(Ports(grpc, 0, metrics), ""), HOST, claim(Ports(0, 0, 0), HOST)) as opened:
        opened.admission.ready = True
        yield Place(opened.url, triton.metrics_url, triton.pid)
