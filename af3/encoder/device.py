"""The interface between the TensorRT encoder and a GPU, so that tests run the encoder without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from af3.encoder.device_array import Memory


@dataclass(frozen=True)
class Profile:
    """The shapes (windows, samples) that one optimisation profile covers."""

    least: tuple[int, int]
    most: tuple[int, int]

    def covers(self, shape: tuple[int, int]) -> bool:
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True))


class Device(Protocol):
    """CUDA and TensorRT for the encoder; implemented by `af3.encoder.tensorrt_engine.TensorRTDevice`.

    All work is queued in order on one stream; `synchronize` waits for it.
    """

    profiles: Sequence[Profile]
    hidden_size: int
    dtype: str  # of the embeddings
    dlpack_device: tuple[int, int]

    def allocate(self, nbytes: int) -> Memory: ...

    def upload(self, values: np.ndarray, address: int) -> None: ...

    def download(self, address: int, nbytes: int) -> np.ndarray:
        """Return uint8 [nbytes], after all queued work."""
        ...

    def copy(self, source: int, destination: int, nbytes: int) -> None: ...

    def capture(
        self, profile: int, shape: tuple[int, int], addresses: Mapping[str, int]
    ) -> Callable[[], None]:
        """Capture a CUDA graph for this shape and return a function that queues it.

        addresses: of all input and output tensors that an encoder engine may have, by name.
        """
        ...

    def synchronize(self) -> None: ...
