"""Encodes audio windows on ONNX Runtime.

A window is padded only to `fed_frames`, not to 30 s: an encoder frame sees mel frames up to 40 ms past the end of its
window, and all later ones are cut off. So the embeddings equal those of the padded window up to fp32 rounding, and a
5 s clip costs a sixth. Windows of one length share a call: without a mask, ONNX Runtime's fused attention takes a third
less time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from af3.encoder.interface import Window
from af3.inputs.audio import HOP, WINDOW_FRAMES, audio_token_count, encoder_frames, fed_frames

# One full window already keeps all cores busy. A larger batch would only need more memory: in the full-size encoder,
# attention scores alone take 180 MB per window and layer.
BATCH_FRAMES = WINDOW_FRAMES


@dataclass(frozen=True)
class AudioEncoder:
    """The encoder of `engines/<target>/audio_encoder/`.

    hidden_size: width of an audio embedding. input_names: the graph's inputs. moved: called before every run.
    """

    session: onnxruntime.InferenceSession
    hidden_size: int
    input_names: tuple[str, ...]
    moved: Callable[[], None] = lambda: None

    @classmethod
    def load(
        cls,
        folder: Path,
        provider: str = "CPUExecutionProvider",
        threads: int = 0,
        moved: Callable[[], None] = lambda: None,
    ) -> AudioEncoder:
        """Load `folder/model.onnx`; threads = 0 uses every core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = (
            False  # a pattern is kept per shape, and nearly every request is a new shape
        )
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # the LLM needs the cores too
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=[provider])
        names = tuple(value.name for value in session.get_inputs())
        return cls(session, session.get_outputs()[0].shape[-1], names, moved)

    def encode(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Return the embeddings of each window, float32 [tokens, hidden_size].

        A window too short for a token (20 ms or less) gives [0, hidden_size].
        """
        embeddings = [np.zeros((0, self.hidden_size), np.float32) for _ in windows]
        for batch in batches([len(window.samples) for window in windows]):
            self.moved()
            rows = self.encode_batch([windows[index] for index in batch])
            for index, row in zip(batch, rows, strict=True):
                embeddings[index] = row
        return embeddings

    def parts(self, windows: Sequence[Window]) -> list[list[int]]:
        return list(batches([len(window.samples) for window in windows]))

    def join(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate the windows' embeddings to a prompt table, float32 [1, tokens, hidden_size]."""
        return np.concatenate(embeddings)[None]

    def encode_batch(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Encode in a single run, however much memory that takes.

        Windows that differ in `encoder_frames` need an engine with a mask (`RaggedEncoder` of build_engines).
        """
        lengths = np.array([len(window.samples) for window in windows], np.int64)
        pcm = np.zeros((len(windows), HOP * fed_frames(int(lengths.max()))), np.float32)
        for row, window in zip(pcm, windows, strict=True):
            row[: len(window.samples)] = window.samples
        index = np.array([window.place for window in windows], np.int64)
        feed = {"pcm": pcm, "pcm_lengths": lengths, "window_index": index}
        # A model without RoTE has no input for the windows' indices.
        wanted = {name: feed[name] for name in self.input_names}
        rows = self.session.run(["audio_embeddings"], wanted)[0]
        # Copy: a view of one short window would keep its whole batch alive.
        return [
            row[: audio_token_count(len(window.samples))].copy()
            for row, window in zip(rows, windows, strict=True)
        ]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group windows by their number of encoder frames into batches of at most BATCH_FRAMES frames.

    Yields indices into `lengths` (in samples). Windows too short for a token are in no batch.
    """
    alike: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        if audio_token_count(length):
            alike.setdefault(encoder_frames(length), []).append(index)
    for indices in alike.values():
        size = max(1, BATCH_FRAMES // fed_frames(lengths[indices[0]]))
        yield from (indices[first : first + size] for first in range(0, len(indices), size))
