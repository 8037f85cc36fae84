"""The random checkpoints and their engines, built once and kept in `.cache/tests/` between runs."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from build_engines import stage
from build_engines.encoder.export_encoder import RaggedEncoder
from build_engines.llm.decoder_graph import Precision
from build_engines.source.checkpoint import Checkpoint, open_checkpoint
from build_engines.targets import cpu
from training import random_model
from training.random_model import Family

CACHE = Path(__file__).parents[2] / ".cache" / "tests"
SEED = 0


@dataclass(frozen=True)
class BuiltEngines:
    """`checkpoint` for Transformers, `engines` for af3/ and the server."""

    checkpoint: Path
    engines: Path


def random_checkpoint(cache: Path = CACHE, family: Family = "af3") -> Path:
    """Folder of a seeded random checkpoint."""
    made = stage.Stage(
        f"random-{family}",
        build=partial(_save, family),
        inputs={"seed": SEED},
        code=(random_model,),
        packages=("torch", "transformers"),
    )
    stage.run([made], cache)
    return cache / made.name


def build_random_engines(
    cache: Path = CACHE, precision: Precision = "fp32", family: Family = "af3"
) -> BuiltEngines:
    """CPU engines of a random checkpoint, up to date with the code."""
    folder = random_checkpoint(cache, family)
    engines = cache / f"engines-{family}-{precision}" / "cpu"
    build_cpu_engines(open_checkpoint(str(folder)), precision, engines)
    return BuiltEngines(folder, engines)


def build_ragged_encoder(cache: Path = CACHE, family: Family = "af3") -> Path:
    """Folder of the random checkpoint's encoder in the form that TensorRT compiles."""
    source = open_checkpoint(str(random_checkpoint(cache, family)))
    made = replace(cpu.audio_encoder_stage(source, RaggedEncoder), name=f"ragged-encoder-{family}")
    stage.run([made], cache)
    return cache / made.name


def build_cpu_engines(source: Checkpoint, precision: Precision, output: Path) -> None:
    """What `python -m build_engines --target cpu` does, in this process."""
    stamps = stage.run(cpu.stages(source, precision), output)
    cpu.write_manifest(source, precision, stamps, output)


def _save(family: Family, folder: Path) -> stage.Figures:
    random_model.save(folder, SEED, family)
    return {}
