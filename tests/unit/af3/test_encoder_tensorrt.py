"""The TensorRT runner against a stand-in GPU that computes with ONNX Runtime and watches every buffer."""

import ast
import ctypes
import gc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from af3.encoder import tensorrt_encoder
from af3.encoder.device import Profile
from af3.encoder.device_array import CPU, DeviceArray
from af3.encoder.host_encoder import HostEncoder
from af3.encoder.interface import Window
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.tensorrt_encoder import (
    GRAPHS_KEPT,
    SHAPE_STEP_SAMPLES,
    TensorRTEncoder,
    padded_samples,
)
from af3.inputs.audio import SAMPLE_RATE, audio_token_count
from build_engines.encoder.tensorrt_build import profiles
from build_engines.targets import TARGETS
from tests.support.engines import build_ragged_encoder


class HostMemory:
    """Host memory that counts as the GPU's; `live` holds what is not freed yet."""

    def __init__(self, device: "StandInDevice", nbytes: int):
        self._device = device
        self._bytes = np.full(nbytes, 0xAB, np.uint8)  # never zeros: nothing may count on them
        self.address = self._bytes.ctypes.data
        device.live[self.address] = nbytes

    def __del__(self) -> None:
        del self._device.live[self.address]


class StandInDevice:
    """Refuses what a GPU would crash on: copies outside live memory, shapes outside the chosen profile."""

    dtype = "bfloat16"
    dlpack_device = (CPU, 0)

    def __init__(self, session: onnxruntime.InferenceSession, target: str = "h100"):
        self.session = session
        self.hidden_size = session.get_outputs()[0].shape[-1]
        self.profiles = [Profile(profile.least, profile.most) for profile in profiles(TARGETS[target])]
        self.live: dict[int, int] = {}
        self.captured: list[tuple[int, tuple[int, int]]] = []
        self.launched: list[tuple[int, int]] = []
        self.queued = 0

    def allocate(self, nbytes: int) -> HostMemory:
        assert nbytes > 0
        return HostMemory(self, nbytes)

    def upload(self, values: np.ndarray, address: int) -> None:
        assert values.flags.c_contiguous
        self._require_live(address, values.nbytes)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self.queued += 1

    def download(self, address: int, nbytes: int) -> np.ndarray:
        return self._read(address, np.uint8, (nbytes,))

    def copy(self, source: int, destination: int, nbytes: int) -> None:
        self._require_live(source, nbytes)
        self._require_live(destination, nbytes)
        ctypes.memmove(destination, source, nbytes)
        self.queued += 1

    def capture(
        self, profile: int, shape: tuple[int, int], addresses: Mapping[str, int]
    ) -> Callable[[], None]:
        assert self.profiles[profile].covers(shape)
        self.captured.append((profile, shape))
        windows, samples = shape

        def launch() -> None:
            feed = {
                value.name: self._read(addresses[value.name], np.int64, (windows,))
                for value in self.session.get_inputs()
                if value.name != "pcm"
            }
            feed["pcm"] = self._read(addresses["pcm"], np.float32, shape)
            rows = torch.from_numpy(self.session.run(None, feed)[0]).to(torch.bfloat16)
            assert rows.shape == (windows, samples // 640, self.hidden_size)
            assert torch.isfinite(rows).all()
            self._require_live(addresses["audio_embeddings"], rows.nbytes)
            ctypes.memmove(addresses["audio_embeddings"], rows.data_ptr(), rows.nbytes)
            self.launched.append(shape)
            self.queued += 1

        return launch

    def synchronize(self) -> None:
        self.queued = 0

    def _read(self, address: int, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        values = np.empty(shape, dtype)
        self._require_live(address, values.nbytes)
        ctypes.memmove(values.ctypes.data, address, values.nbytes)
        return values

    def _require_live(self, address: int, nbytes: int) -> None:
        assert any(start <= address and address + nbytes <= start + size for start, size in self.live.items())


@pytest.fixture(scope="module")
def onnx_encoder() -> AudioEncoder:
    return AudioEncoder.load(build_ragged_encoder(), threads=1)


@pytest.fixture
def device(onnx_encoder: AudioEncoder) -> StandInDevice:
    return StandInDevice(onnx_encoder.session)


def prompt_table(encoder: TensorRTEncoder, windows: list[Window]) -> DeviceArray:
    return encoder.join(encoder.encode(windows))


def tones(*seconds: float) -> list[Window]:
    """A noisy tone of each length, windows of one clip."""
    draw = np.random.default_rng(7)
    lengths = [int(length * SAMPLE_RATE) for length in seconds]
    samples = [
        (0.3 * np.sin(np.arange(n) * 0.05 * (i + 1)) + 0.02 * draw.standard_normal(n)).astype(np.float32)
        for i, n in enumerate(lengths)
    ]
    return [Window(window, place) for place, window in enumerate(samples)]


def test_the_table_holds_the_same_rows_as_onnx_runtime_gives(onnx_encoder, device):
    windows = tones(3.3, 12, 0.4, 3.9, 12)
    table = torch.from_dlpack(prompt_table(TensorRTEncoder(device), windows))
    expected = torch.from_numpy(np.concatenate(onnx_encoder.encode(windows)))
    assert table.dtype == torch.bfloat16
    assert table.shape == (1, *expected.shape)
    assert torch.allclose(table[0].float(), expected, rtol=2**-7, atol=1e-3)


def test_a_window_is_turned_by_its_place_in_its_clip():
    encoder = AudioEncoder.load(build_ragged_encoder(family="next"), threads=1)
    windows = tones(3.3, 12, 0.4, 3.9, 12)
    table = torch.from_dlpack(prompt_table(TensorRTEncoder(StandInDevice(encoder.session)), windows))
    expected = torch.from_numpy(np.concatenate(encoder.encode(windows)))
    unturned = torch.from_numpy(np.concatenate(encoder.encode([Window(w.samples, 0) for w in windows])))
    assert torch.allclose(table[0].float(), expected, rtol=2**-7, atol=1e-3)
    assert not torch.allclose(table[0].float(), unturned, rtol=2**-7, atol=1e-3)


def test_a_request_of_more_windows_than_the_engine_takes_runs_in_several_calls(onnx_encoder):
    device = StandInDevice(onnx_encoder.session, "l40s")  # 8 windows a call
    windows = tones(*[0.5] * 11)
    table = torch.from_dlpack(prompt_table(TensorRTEncoder(device), windows))
    assert device.launched == [(8, SHAPE_STEP_SAMPLES), (4, SHAPE_STEP_SAMPLES)]
    expected = torch.from_numpy(np.concatenate(onnx_encoder.encode(windows)))
    assert torch.allclose(table[0].float(), expected, rtol=2**-7, atol=1e-3)


def test_a_shape_is_captured_once_and_launched_often(device):
    encoder = TensorRTEncoder(device)
    for seconds in (2.1, 2.5, 2.9, 2.2):
        prompt_table(encoder, tones(seconds))
    assert [shape for _, shape in device.captured] == [(1, 3 * SAMPLE_RATE)]
    assert len(device.launched) == 4


@pytest.mark.parametrize(
    ("seconds", "profile", "shape"),
    [((5.3,), 0, (1, 6)), ((9.99,), 1, (1, 11)), ((12,), 1, (1, 13)), ((1.5, 1.9, 1.7), 2, (4, 2))],
)
def test_the_profile_is_the_first_that_covers_the_shape(device, seconds, profile, shape):
    prompt_table(TensorRTEncoder(device), tones(*seconds))
    assert device.captured == [(profile, (shape[0], shape[1] * SAMPLE_RATE))]


def test_every_length_and_count_has_a_profile_on_every_target(onnx_encoder):
    lengths = range(SHAPE_STEP_SAMPLES, 30 * SAMPLE_RATE + 1, SHAPE_STEP_SAMPLES)
    for name, target in TARGETS.items():
        known = StandInDevice(onnx_encoder.session, name).profiles
        for windows in range(1, target.encoder_windows + 1):
            assert all(any(p.covers((windows, samples)) for p in known) for samples in lengths)


def test_padding_is_whole_steps_and_never_cuts_what_the_encoder_hears():
    for length in (480, 15_999, 16_000, 479_999, 480_000):
        padded = padded_samples(length)
        assert padded % SHAPE_STEP_SAMPLES == 0
        assert length <= padded <= 30 * SAMPLE_RATE


def test_a_table_outlives_its_encoder_call_and_is_freed_by_its_last_holder(device):
    encoder = TensorRTEncoder(device)
    standing = len(device.live)
    first = torch.from_dlpack(prompt_table(encoder, tones(1.0)))
    kept = first.clone()
    prompt_table(encoder, tones(4.0))  # writes the shared output buffer again
    gc.collect()
    assert len(device.live) == standing + 1
    assert torch.equal(first, kept)
    del first
    gc.collect()
    assert len(device.live) == standing


def test_a_capsule_that_nobody_takes_is_freed(device):
    encoder = TensorRTEncoder(device)
    standing = len(device.live)
    capsule = prompt_table(encoder, tones(1.0)).__dlpack__()
    assert len(device.live) == standing + 1
    del capsule
    gc.collect()
    assert len(device.live) == standing


def test_the_table_is_handed_on_only_when_the_gpu_is_done(device):
    prompt_table(TensorRTEncoder(device), tones(1.0, 2.0))
    assert device.queued == 0


def test_the_least_used_graph_makes_room(device):
    encoder = TensorRTEncoder(device)
    shapes = [(windows, seconds * SAMPLE_RATE) for windows in (1, 2) for seconds in range(1, 31)]
    for shape in shapes[:GRAPHS_KEPT]:
        encoder._graph(shape)
    encoder._graph(shapes[0])
    encoder._graph(shapes[GRAPHS_KEPT])  # pushes out shapes[1], unused for longest
    captured = len(device.captured)
    encoder._graph(shapes[0])
    assert len(device.captured) == captured
    encoder._graph(shapes[1])
    assert len(device.captured) == captured + 1


def test_windows_without_a_token_take_no_row(device):
    windows = [*tones(1.0), Window(np.zeros(320, np.float32), 1)]
    table = torch.from_dlpack(prompt_table(TensorRTEncoder(device), windows))
    assert table.shape[1] == audio_token_count(SAMPLE_RATE)


def test_embeddings_for_an_llm_elsewhere_come_to_the_host_in_float32(device, onnx_encoder):
    windows = tones(3.0, 30.0, 11.0)
    host = HostEncoder(TensorRTEncoder(device))
    found = host.encode(windows)
    for one, expected in zip(found, onnx_encoder.encode(windows), strict=True):
        assert one.dtype == np.float32
        assert np.array_equal(one, torch.from_numpy(expected).to(torch.bfloat16).float().numpy())
    table = host.join(found)
    assert table.shape == (1, sum(map(len, found)), onnx_encoder.hidden_size)
    assert np.array_equal(table[0, : len(found[0])], found[0])


def test_every_name_of_tensorrt_that_the_engine_uses_is_one_of_tensorrt_for_rtx():
    """The calls themselves need a GPU: what is looked up in the module, the engine, a context and a configuration."""
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    tree = ast.parse(Path(tensorrt_encoder.__file__).with_name("tensorrt_engine.py").read_text())
    owners = {
        "_tensorrt": trt,
        "tensorrt": trt,
        "_engine": trt.ICudaEngine,
        "_runtime": trt.Runtime,
        "runtime": trt.Runtime,
        "context": trt.IExecutionContext,
        "config": trt.IRuntimeConfig,
    }
    used = [
        (getattr(node.value, "attr", getattr(node.value, "id", "")), node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    ]
    asked = {(owner, name) for owner, name in used if owner in owners and not name.startswith("_engine")}
    assert {owner for owner, _ in asked} == set(owners) - {"_runtime"}
    for owner, name in asked:
        assert name in ("__version__", "WARNING", "Logger") or hasattr(owners[owner], name), (owner, name)
    assert hasattr(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")
