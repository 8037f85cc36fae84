"""Encodes audio windows on TensorRT.

A CUDA graph is tied to the shape it was captured with, so shapes come in steps: samples are padded to whole seconds and
windows to a few counts. Masked frames and unused rows change no embedding (see `af3.encoder.onnx_encoder`). The
embeddings stay in GPU memory in the LLM's dtype.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from af3.encoder.device import Device
from af3.encoder.device_array import DTYPES, DeviceArray
from af3.encoder.interface import Window
from af3.inputs.audio import HOP, SAMPLE_RATE, audio_token_count, fed_frames
from af3.manifest import ManifestError

SHAPE_STEP_SAMPLES = SAMPLE_RATE
SAMPLES_PER_TOKEN = 4 * HOP  # the encoder halves the mel frames twice
WINDOW_STEPS = (1, 2, 4, 8, 12, 16, 20)
# Each graph holds an execution context; buffers and activations are shared.
GRAPHS_KEPT = 48


class TensorRTEncoder:
    """The engine of `engines/<target>/audio_encoder/`. Not thread-safe: its graphs share their buffers."""

    def __init__(self, device: Device):
        self.device = device
        self._most_windows = max(profile.most[0] for profile in device.profiles)
        most_samples = max(profile.most[1] for profile in device.profiles)
        self._row_bytes = device.hidden_size * DTYPES[device.dtype][1] // 8
        rows = most_samples // SAMPLES_PER_TOKEN
        self._pcm = device.allocate(self._most_windows * most_samples * np.float32().nbytes)
        self._pcm_lengths = device.allocate(self._most_windows * np.int64().nbytes)
        self._window_index = device.allocate(self._most_windows * np.int64().nbytes)
        self._embeddings = device.allocate(self._most_windows * rows * self._row_bytes)
        self._graphs: OrderedDict[tuple[int, int], Callable[[], None]] = OrderedDict()

    @classmethod
    def load(cls, folder: Path, library: str = "tensorrt") -> TensorRTEncoder:
        """Load `folder/model.plan` onto the GPU. library: the Python module of TensorRT or of TensorRT for RTX.

        Raises ManifestError when the library is not installed or cannot run this engine.
        """
        try:
            from af3.encoder.tensorrt_engine import TensorRTDevice

            module = importlib.import_module(library)
        except ImportError as error:
            raise ManifestError(
                f"{folder}: {error}; serve these engines in the container that `make serve` starts, or for GPU=rtx"
                " run `make setup-vllm GPU=rtx`"
            ) from None
        return cls(TensorRTDevice(folder / "model.plan", module))

    def encode(self, windows: Sequence[Window]) -> list[DeviceArray]:
        """Return the embeddings of each window, [tokens, hidden_size], each in memory of its own."""
        embeddings = [self._allocated(audio_token_count(len(window.samples))) for window in windows]
        for batch, shape in self._batches([len(window.samples) for window in windows]):
            self._run([windows[index] for index in batch], shape)
            rows_per_window = shape[1] // SAMPLES_PER_TOKEN
            for row, index in enumerate(batch):
                self.device.copy(
                    self._embeddings.address + row * rows_per_window * self._row_bytes,
                    embeddings[index].memory.address,
                    embeddings[index].nbytes,
                )
        self.device.synchronize()
        return embeddings

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        return [batch for batch, _ in self._batches([len(window.samples) for window in windows])]

    def join(self, embeddings: Sequence[DeviceArray]) -> DeviceArray:
        """Concatenate the windows' embeddings to a prompt table, [1, tokens, hidden_size].

        The table has memory of its own, which lives as long as the table or its DLPack capsule.
        """
        table = self._allocated(sum(window.shape[0] for window in embeddings))
        address = table.memory.address
        for window in embeddings:
            self.device.copy(window.memory.address, address, window.nbytes)
            address += window.nbytes
        self.device.synchronize()
        return DeviceArray(table.memory, (1, *table.shape), table.dtype, table.device)

    def _allocated(self, tokens: int) -> DeviceArray:
        memory = self.device.allocate(max(1, tokens) * self._row_bytes)  # CUDA cannot allocate 0 bytes
        shape = (tokens, self.device.hidden_size)
        return DeviceArray(memory, shape, self.device.dtype, self.device.dlpack_device)

    def _batches(self, lengths: Sequence[int]) -> Iterator[tuple[list[int], tuple[int, int]]]:
        """Yield indices of windows that share a padded length, and the shape of their run."""
        by_samples: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            if audio_token_count(length):
                by_samples.setdefault(padded_samples(length), []).append(index)
        for samples, indices in by_samples.items():
            for start in range(0, len(indices), self._most_windows):
                batch = indices[start : start + self._most_windows]
                steps = (step for step in WINDOW_STEPS if step >= len(batch))
                yield batch, (min(next(steps), self._most_windows), samples)

    def _run(self, windows: Sequence[Window], shape: tuple[int, int]) -> None:
        """Queue the upload of `windows`, padded to `shape`, and the engine."""
        pcm = np.zeros(shape, np.float32)
        # Unused rows are silence; any finite values would do, because nothing reads them.
        lengths = np.full(shape[0], shape[1], np.int64)
        index = np.zeros(shape[0], np.int64)
        for row, window in enumerate(windows):
            pcm[row, : len(window.samples)] = window.samples
            lengths[row] = len(window.samples)
            index[row] = window.place
        self.device.upload(pcm, self._pcm.address)
        self.device.upload(lengths, self._pcm_lengths.address)
        self.device.upload(index, self._window_index.address)
        self._graph(shape)()

    def _graph(self, shape: tuple[int, int]) -> Callable[[], None]:
        """Return the graph of a shape, captured at its first use; the least recently used graph is evicted."""
        if shape not in self._graphs:
            if len(self._graphs) == GRAPHS_KEPT:
                self._graphs.popitem(last=False)
            covering = (index for index, profile in enumerate(self.device.profiles) if profile.covers(shape))
            self._graphs[shape] = self.device.capture(
                next(covering),
                shape,
                {
                    "pcm": self._pcm.address,
                    "pcm_lengths": self._pcm_lengths.address,
                    "window_index": self._window_index.address,
                    "audio_embeddings": self._embeddings.address,
                },
            )
        self._graphs.move_to_end(shape)
        return self._graphs[shape]


def padded_samples(length: int) -> int:
    """Samples to which a window of `length` is padded: the encoder's minimum, rounded up to a whole step."""
    fed = HOP * fed_frames(length)
    return -(-fed // SHAPE_STEP_SAMPLES) * SHAPE_STEP_SAMPLES
