"""Triton with the real steps, except that `llm` is a file of this folder, and a door before it."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
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
    source: str, steps: Sequence[str] = STEPS, overrides: Mapping[str, Mapping[str, int]] | None = None
) -> Iterator[Place]:
    """Serve `steps` on Triton, with the file `source` as the model.py of `llm`.

    overrides: settings by step, instead of those of its config.
    """
    with tempfile.TemporaryDirectory(prefix="af3-perf-") as name:
        models = Path(name) / "models"
        for step in steps:
            (models / step).mkdir(parents=True)
            for entry in (MODEL_REPOSITORY / step).iterdir():
                (models / step / entry.name).symlink_to(entry)
        (models / "llm" / "1").mkdir(parents=True)
        (models / "llm" / "configs").symlink_to(MODEL_REPOSITORY / "llm" / "configs")
        (models / "llm" / "1" / "model.py").symlink_to(Path(__file__).with_name(source))
        for step, settings in (overrides or {}).items():
            _override(models / step, settings)
        with Server("cpu", Path.cwd(), Path(name) / "log", Ports(0, 0, 0), models=models) as server:
            server.wait_until(lambda: answers(server.url), 60)
            yield Place(server.url, f"http://{HOST}:{server.ports.metrics}/metrics", server.pid)


def _override(step: Path, settings: Mapping[str, int]) -> None:
    """Replace the link to the CPU config by a copy in which these settings have these values."""
    lines = (step / "configs" / "cpu.pbtxt").read_text().splitlines()
    changed = [line for line in lines if not any(f'key: "{key}"' in line for key in settings)]
    changed += [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in settings.items()
    ]
    (step / "configs").unlink()
    (step / "configs").mkdir()
    (step / "configs" / "cpu.pbtxt").write_text("\n".join(changed) + "\n")


@contextmanager
def door(triton: Place) -> Iterator[Place]:
    """Run the door before it, in a process of its own; `pid` is the door's."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_door, args=(theirs, triton))
    process.start()
    theirs.close()
    try:
        yield Place(ours.recv(), triton.metrics_url, process.pid)
    finally:
        ours.close()
        process.join()


def _serve_door(measurer: Connection, triton: Place) -> None:
    """Serve until the other end of the pipe is closed."""
    grpc = int(triton.url.rpartition(":")[2])
    metrics = int((triton.metrics_url or "").rpartition(":")[2].partition("/")[0])
    with Door(TritonAddress(Ports(grpc, 0, metrics), ""), HOST, claim(Ports(0, 0, 0), HOST)) as opened:
        opened.admission.ready = True
        measurer.send(opened.url)
        measurer.poll(None)
