"""What `make serve` serves: af3-tiny, the small checkpoint that understands its samples, behind the door."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from af3.speech.built_voice import available_voices
from build_engines.source.checkpoint import open_checkpoint
from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.host.triton import Server
from tests.support.engines import CACHE, build_cpu_engines
from tests.support.ready_server import ready_server

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
ENGINES = CACHE / "engines-af3-tiny"
HOST = "127.0.0.1"


@contextmanager
def tiny_triton(folder: Path) -> Iterator[Server]:
    build_cpu_engines(open_checkpoint(str(CHECKPOINT)), "fp32", ENGINES / "cpu")
    (folder / "engines").symlink_to(ENGINES)
    with ready_server(folder) as triton:
        yield triton


@contextmanager
def tiny_door(triton: Server, api_keys: Path | None = None) -> Iterator[Door]:
    """`api_keys`: the file of keys, one of which every caller needs then."""
    address, ports, voices = (
        TritonAddress(triton.ports, ""),
        claim(Ports(0, 0, 0), HOST),
        available_voices(ENGINES / "cpu"),
    )
    with Door(address, HOST, ports, voices=voices, api_keys=api_keys) as door:
        door.admission.ready = True
        yield door
