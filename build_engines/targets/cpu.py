"""Target `cpu`: engines for ONNX Runtime."""

from functools import partial
from pathlib import Path

from af3.manifest import CheckpointIdentity, Limits, Manifest
from af3.manifest import Precision as Precisions
from af3.speech.built_voice import VOICE_FOLDER, built_licence, built_voice
from build_engines.encoder import export_encoder
from build_engines.encoder.export_encoder import AlignedEncoder, WaveformEncoder
from build_engines.llm import decoder_files
from build_engines.llm.decoder_graph import Precision
from build_engines.source import reach, tokenizer_files
from build_engines.source.checkpoint import Checkpoint
from build_engines.stage import Stage, Stamp, read_stamp
from build_engines.weight_block import EncoderPrecision, encoder_precision

ROWS = 8  # sequences decoded together; on a CPU more only slow each other down


def stages(source: Checkpoint, precision: Precision) -> list[Stage]:
    """The stages tokenizer, encoder and decoder; each needs only the checkpoint."""
    identity = {"checkpoint": source.sha256}
    return [
        Stage(
            "tokenizer",
            build=partial(tokenizer_files.build, source),
            inputs=identity,
            code=(tokenizer_files,),
            packages=("tokenizers", "transformers"),
        ),
        audio_encoder_stage(source, AlignedEncoder, encoder_precision(precision)),
        Stage(
            "llm",
            build=partial(decoder_files.build, source, precision),
            inputs=identity | {"precision": precision},
            code=(decoder_files,),
            packages=("onnx", "onnxruntime", "torch"),
        ),
    ]


def audio_encoder_stage(
    source: Checkpoint, form: type[WaveformEncoder], precision: EncoderPrecision = "fp32"
) -> Stage:
    """The stage of the ONNX encoder, in its form for ONNX Runtime or for TensorRT."""
    return Stage(
        "audio_encoder",
        build=partial(export_encoder.build, source, form, precision=precision),
        inputs={"checkpoint": source.sha256, "form": form.__name__, "precision": precision},
        code=(export_encoder,),
        packages=("onnx", "onnxruntime", "onnxscript", "torch", "transformers"),
    )


def limits(source: Checkpoint) -> Limits:
    """The checkpoint's own limits."""
    return reach.of(source).limits(ROWS)


def write_manifest(source: Checkpoint, precision: Precision, stamps: dict[str, Stamp], output: Path) -> None:
    """Write `manifest.json` from all stages' stamps; a voice that was built earlier stays in it."""
    stamps = stamps | voice_stamp(output)
    Manifest(
        target="cpu",
        checkpoint=CheckpointIdentity(name=source.name, sha256=source.sha256),
        precision=Precisions(audio_encoder=encoder_precision(precision), llm=precision),
        limits=limits(source),
        model=tokenizer_files.model_facts(source),
        tools={
            name: version for stamp in stamps.values() for name, version in sorted(stamp.versions.items())
        },
        files={
            f"{stage}/{path}": sha256
            for stage, stamp in stamps.items()
            for path, sha256 in stamp.files.items()
        },
        verification={stage: dict(stamp.figures) for stage, stamp in stamps.items()},
        voice=built_voice(output / VOICE_FOLDER),
        voice_licence=built_licence(output / VOICE_FOLDER),
    ).write(output)


def voice_stamp(output: Path) -> dict[str, Stamp]:
    """The stamp of the voice in `output` by stage name; empty when none was built."""
    stamp = read_stamp(output / VOICE_FOLDER)
    return {} if stamp is None else {VOICE_FOLDER: stamp}
