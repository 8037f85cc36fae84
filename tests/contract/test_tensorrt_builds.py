"""Real TensorRT (for RTX, on a CPU) builds every graph that we ship, with every profile, in the served precision."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from af3.speech.engines.vits_interface import GRAPHS
from build_engines import memory_plan
from build_engines.encoder import tensorrt_build
from build_engines.encoder.export_encoder import RaggedEncoder
from build_engines.encoder.rtx_build import Built
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError, run
from build_engines.targets import TARGETS, cpu, nvidia
from build_engines.voice import export_voice, tensorrt_voice
from tests import full_size_tensorrt
from tests.support import tensorrt_rtx
from tests.support.engines import CACHE, build_ragged_encoder, random_checkpoint
from tests.support.vits_checkpoint import save_checkpoint

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "checkpoints" / "af3-tiny"
H100 = TARGETS["h100"]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """af3-tiny's encoder as `make engines GPU=…` hands it to TensorRT."""
    if not TINY.exists():
        pytest.skip("checkpoints/af3-tiny is not there")
    engines = CACHE / "af3-tiny-for-tensorrt"
    run([cpu.audio_encoder_stage(open_checkpoint(str(TINY)), RaggedEncoder)], engines)
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    tensorrt_build.write_mixed_precision(engines / "audio_encoder" / "model.onnx", path)
    return path


@pytest.fixture(scope="module")
def encoder(half: Path) -> Built:
    return tensorrt_rtx.build(half, tensorrt_rtx.encoder_profiles(H100))


def test_the_encoder_has_the_types_and_dynamic_shapes_of_its_config(encoder):
    text = (REPOSITORY / "model_repository/audio_encoder/configs/gpu.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    [table] = config.output
    hidden = open_checkpoint(str(TINY)).text_config.hidden_size
    assert encoder.inputs == {"pcm": ("FLOAT", (-1, -1)), "pcm_lengths": ("INT64", (-1,))}
    assert encoder.outputs == {"audio_embeddings": ("BF16", (-1, -1, hidden))}
    assert model_config_pb2.DataType.Name(table.data_type) == "TYPE_BF16"


def test_only_log_mel_softmax_and_layer_norm_are_full_precision(encoder):
    kinds = {
        kind: {layer.dtype for layer in encoder.layers if layer.kind == kind}
        for kind in ("SOFTMAX", "NORMALIZATION")
    }
    assert kinds == {"SOFTMAX": {"FLOAT"}, "NORMALIZATION": {"FLOAT"}}
    products = [layer for layer in encoder.layers if layer.kind == "MATRIX_MULTIPLY"]
    [_dft, _mel] = [layer for layer in products if layer.dtype == "FLOAT"]  # the spectrum, its mel bins
    layers = open_checkpoint(str(TINY)).audio_config.num_hidden_layers
    assert len(products) == 2 + 8 * layers + 2  # q, k, v, scores, values, out, fc1, fc2; the adaptor's two


def test_the_towers_two_convolutions_are_the_only_ones(encoder, rotating):
    """TensorRT may have no kernel for one of 400 samples in FP32, as the DFT would be; products always have one."""
    for built in (encoder, rotating):
        convolutions = [layer.dtype for layer in built.layers if layer.kind == "CONVOLUTION"]
        assert convolutions == ["BF16", "BF16"]


def test_the_memory_plan_holds_what_tensorrt_reserves(encoder):
    geometry = nvidia.geometry(open_checkpoint(str(TINY)))
    planned = memory_plan.plan(H100, geometry)
    assert len(encoder.activation_bytes) == len(tensorrt_build.profiles(H100))
    assert 0 < max(encoder.activation_bytes) <= planned.encoder_activations
    assert encoder.weight_bytes <= 1.05 * planned.encoder_weights


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The encoder of Audio Flamingo Next's class, which looks its rotation by time up in a table."""
    path = tmp_path_factory.mktemp("rotating") / "model.onnx"
    tensorrt_build.write_mixed_precision(build_ragged_encoder(family="next") / "model.onnx", path)
    return tensorrt_rtx.build(path, tensorrt_rtx.encoder_profiles(H100, placed=True))


def test_an_encoder_that_rotates_by_time_has_the_places_of_its_windows_as_an_input(rotating):
    hidden = open_checkpoint(str(random_checkpoint(family="next"))).text_config.hidden_size
    assert rotating.inputs == {
        "pcm": ("FLOAT", (-1, -1)),
        "pcm_lengths": ("INT64", (-1,)),
        "window_index": ("INT64", (-1,)),
    }
    assert rotating.outputs == {"audio_embeddings": ("BF16", (-1, -1, hidden))}
    assert {layer.dtype for layer in rotating.layers if layer.kind == "SOFTMAX"} == {"FLOAT"}
    assert sum(layer.kind == "GATHER" for layer in rotating.layers) >= 2  # cosines and sines, of a table
    assert not [layer for layer in rotating.layers if layer.kind == "UNARY" and "Cos" in layer.name]
    assert len(rotating.activation_bytes) == len(tensorrt_build.profiles(H100))


def test_the_memory_plan_counts_the_tables_of_the_rotation(rotating):
    geometry = nvidia.geometry(open_checkpoint(str(random_checkpoint(family="next"))))
    planned = memory_plan.plan(H100, geometry)
    assert planned.rotation_tables > 2 * 60 * 750 * 2
    weights = planned.encoder_weights + planned.rotation_tables
    assert planned.encoder_weights < rotating.weight_bytes <= 1.05 * weights


def test_the_full_size_checks_hold_for_a_small_model_and_can_fail(encoder):
    """`python -m tests.full_size --tensorrt` asks the same of the full size."""
    geometry = nvidia.geometry(open_checkpoint(str(TINY)))
    planned = memory_plan.plan(H100, geometry)
    assert full_size_tensorrt.wrong(encoder, geometry, planned) == []
    less = replace(planned, encoder_activations=1, encoder_weights=1)
    other = replace(encoder, inputs={}, outputs={})
    assert len(full_size_tensorrt.wrong(other, geometry, less)) == 4


def test_the_full_size_is_that_of_the_published_checkpoint():
    """The first run of the command said that embeddings were 4096 wide, the default of Transformers' config."""
    with torch.device("meta"):
        made = full_size_tensorrt.modules(full_size_tensorrt.LAYERS)
    weights = sum(weight.numel() for module in made for weight in module.parameters())
    assert weights == memory_plan.AUDIO_FLAMINGO_3.encoder_weights


def test_nothing_is_warned_of_but_the_type_of_the_lengths(encoder):
    assert all("pcm_lengths" in warning or "CUDA" in warning for warning in encoder.warnings), (
        encoder.warnings
    )


@pytest.mark.parametrize("name", TARGETS)
def test_profiles_of_every_target_cover_its_windows_and_every_padded_length(name):
    profiles = tensorrt_build.profiles(TARGETS[name])
    full = tensorrt_build.WINDOW_SAMPLES
    for windows in range(1, TARGETS[name].encoder_windows + 1):
        for samples in range(tensorrt_build.SHAPE_STEP_SAMPLES, full + 1, tensorrt_build.SHAPE_STEP_SAMPLES):
            assert any(
                all(
                    low <= size <= high
                    for low, size, high in zip(p.least, (windows, samples), p.most, strict=True)
                )
                for p in profiles
            ), (windows, samples)


def test_a_graph_that_tensorrt_does_not_take_fails(half, tmp_path):
    model = onnx.load(half)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type, softmax.domain = "FusedSoftmax", "com.microsoft"
    onnx.save(model, tmp_path / "broken.onnx", save_as_external_data=True, location="broken.data")
    with pytest.raises(BuildError, match="FusedSoftmax"):
        tensorrt_rtx.build(tmp_path / "broken.onnx", tensorrt_rtx.encoder_profiles(H100))


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tensorrt_voice.Shapes]:
    folder = tmp_path_factory.mktemp("voice")
    checkpoint = str(save_checkpoint(folder / "checkpoint"))
    stage = export_voice.stage(checkpoint)
    run([stage], folder)
    return folder / stage.name, tensorrt_voice.Shapes.of(checkpoint)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_of_the_voice_builds_with_the_tensors_that_its_runner_takes(voice, name):
    folder, shapes = voice
    built = tensorrt_rtx.build(
        folder / f"{name}.onnx", [full_size_tensorrt.voice_profile(shapes.bounds(name))]
    )
    assert list(full_size_tensorrt.voice_wrong(name, built, shapes)) == []
    other = replace(built, outputs=dict.fromkeys(built.outputs, ("HALF", (-1,))))
    assert len(list(full_size_tensorrt.voice_wrong(name, other, shapes))) == 1
    assert len(built.activation_bytes) == 1
