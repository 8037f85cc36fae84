"""What the TensorRT encoder needs of a GPU. An interface of its own, so that the caller runs without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from af3.encoder.device_array import Memory


@dataclass(frozen=True)
class Profile:
    """Shapes (windows, samples) that one optimisation profile of the engine covers."""

    least: tuple[int, int]
    most: tuple[int, int]

    def covers(self, shape: tuple[int, int]) -> bool:
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True))


class Device(Protocol):
    """What the runner needs of CUDA and TensorRT; `af3.encoder.tensorrt_engine.TensorRTDevice` is the real one.

    All work is queued in order on one stream; `synchronize` waits for it.
    """

    profiles: Sequence[Profile]
    hidden_size: int
    dtype: str  # of the embeddings
    dlpack_device: tuple[int, int]

    def allocate(self, nbytes: int) -> Memory: ...

    def upload(self, values: np.ndarray, address: int) -> None: ...

    def download(self, address: int, nbytes: int) -> np.ndarray:
        """uint8 [nbytes]; waits for what is queued."""
        ...

    def copy(self, source: int, destination: int, nbytes: int) -> None: ...

    def capture(
        self, profile: int, shape: tuple[int, int], addresses: Mapping[str, int]
    ) -> Callable[[], None]:
        """A call that queues the engine on these addresses for this shape, as a CUDA graph.

        `addresses` has every tensor that some engine has; of this engine's own, those it reads and writes.
        """
        ...

    def synchronize(self) -> None: ...
