"""Runs the LLM on ONNX Runtime: prefill and decode over the rows of one KV cache."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

MODEL_FILE = "decoder.onnx"
WEIGHTS_FILE = "decoder.onnx.data"
EMBEDDINGS_FILE = "embeddings.npy"
# A decode step of a model with fewer bytes of weights is over before a second thread has woken: on af3-tiny (11 MB) one
# thread takes 0.20 ms of one core, two 0.27 ms and 0.32 of processor time; with eight streams 0.68, 0.82 and 1.25.
ONE_THREAD_BYTES = 32 << 20
KEPT_BYTES = 16 << 20  # of a freed row: most answers are short, and need not fetch their pages again


@dataclass(frozen=True)
class _Bound:
    """Buffers that stay bound to the session, so that a decode step only writes into them."""

    binding: onnxruntime.IOBinding
    embeddings: np.ndarray  # float32 [B, 1, H]
    last_positions: np.ndarray  # int32 [B]
    total_length: np.ndarray  # int32 []
    logits: np.ndarray  # float32 [B, V]


class Decoder:
    """A decoder graph with a KV cache of `rows` sequences (graph: `build_engines/llm/decoder_graph.py`).

    Prompts are read on `threads`; so are answers, unless the model is small (`ONE_THREAD_BYTES`).
    The cache is reserved for the longest sequence. The operating system allocates only pages that are written, and gets
    those of a long sequence back when its row is freed, so a row costs what it holds. Past and present are the same
    buffer, so a step writes one position and copies nothing. Not thread-safe.
    """

    def __init__(self, folder: Path, rows: int, max_sequence_tokens: int, threads: int):
        self._prefill_session = self._decode_session = _load(folder, threads)
        if threads != 1 and (folder / WEIGHTS_FILE).stat().st_size < ONE_THREAD_BYTES:
            self._decode_session = _load(folder, 1)
        self._table = np.load(folder / EMBEDDINGS_FILE, mmap_mode="r")
        past = [value for value in self._prefill_session.get_inputs() if value.name.startswith("past_")]
        _, heads, _, head_dim = past[0].shape
        shape = (rows, heads, max_sequence_tokens, head_dim)
        self._pages = {value.name: _reserve(shape) for value in past}
        self._cache = {
            name: np.frombuffer(pages, np.float32, int(np.prod(shape))).reshape(shape)
            for name, pages in self._pages.items()
        }
        # The most tokens that each row has held since its pages were given back.
        self._written = np.zeros(rows, np.int64)
        self._kept_tokens = KEPT_BYTES // (len(past) * heads * head_dim * np.dtype(np.float32).itemsize)
        self.rows = rows
        self.max_sequence_tokens = max_sequence_tokens
        self.vocab_size, self.hidden_size = self._table.shape
        self._bound = cache(self._bind_decode)

    def embed(self, ids: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        """Embed ids int32 [S] as float32 [S, H]; id vocab_size + k is row k of `table`, [P, H]."""
        virtual = ids >= self.vocab_size
        embeddings = self._table[np.where(virtual, 0, ids)]
        if table is not None:
            embeddings[virtual] = table[ids[virtual] - self.vocab_size]
        return embeddings

    def prefill(self, row: int, embeddings: np.ndarray, past: int) -> np.ndarray:
        """Prefill the next chunk of a prompt into `row`: float32 [S, H] after `past` tokens → logits [V]."""
        size = len(embeddings)
        binding = self._prefill_session.io_binding()
        inputs = (
            embeddings[None],
            np.array([past + size - 1], np.int32),
            np.array(past + size, np.int32),
        )
        logits = np.empty((1, self.vocab_size), np.float32)
        self._bind(binding, inputs, logits, slice(row, row + 1))
        self._note(row, past + size)
        self._prefill_session.run_with_iobinding(binding)
        return logits[0]

    def decode(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Decode one token for each of rows 0 … B-1: ids int [B] after `lengths` int [B] tokens → logits [B, V].

        The next step of the same batch size overwrites the returned array.
        """
        bound = self._bound(len(ids))
        bound.embeddings[:, 0] = self._table[ids]
        bound.last_positions[:] = lengths
        bound.total_length[()] = lengths.max() + 1
        np.maximum(self._written[: len(ids)], lengths + 1, out=self._written[: len(ids)])
        self._decode_session.run_with_iobinding(bound.binding)
        return bound.logits

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of row `source` to row `target`, which is free."""
        self.free(target)
        self._note(target, length)
        for buffer in self._cache.values():
            buffer[target, :, :length] = buffer[source, :, :length]

    def swap(self, row: int, other: int, length: int, other_length: int) -> None:
        """Exchange two rows, which hold so many tokens."""
        self._note(row, other_length)
        self._note(other, length)
        for buffer in self._cache.values():
            kept = buffer[row, :, :length].copy()
            buffer[row, :, :other_length] = buffer[other, :, :other_length]
            buffer[other, :, :length] = kept

    def free(self, row: int) -> None:
        """Give the pages of a row back to the operating system, if they are many. What it held is lost."""
        if self._written[row] <= self._kept_tokens:
            return
        self._written[row] = 0
        for name, pages in self._pages.items():
            size = self._cache[name][row].nbytes
            # Not the pages that it shares with its neighbours.
            first, last = -(-row * size // mmap.PAGESIZE), (row + 1) * size // mmap.PAGESIZE
            if first < last:
                pages.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)

    def saved(self, row: int, start: int, tokens: int) -> np.ndarray:
        """Copy the keys and values of `tokens` tokens of a row: float32 [2 × layers, kv heads, tokens, D]."""
        return np.stack([buffer[row, :, start : start + tokens] for buffer in self._cache.values()])

    def restore(self, row: int, start: int, saved: np.ndarray) -> None:
        """Write the result of `saved` into a row from token `start` on."""
        stop = start + saved.shape[2]
        self._note(row, stop)
        for buffer, part in zip(self._cache.values(), saved, strict=True):
            buffer[row, :, start:stop] = part

    def _note(self, row: int, tokens: int) -> None:
        self._written[row] = max(self._written[row], tokens)

    def _bind_decode(self, batch: int) -> _Bound:
        embeddings = np.empty((batch, 1, self.hidden_size), np.float32)
        last_positions, total_length = np.empty(batch, np.int32), np.empty((), np.int32)
        logits = np.empty((batch, self.vocab_size), np.float32)
        binding = self._decode_session.io_binding()
        self._bind(binding, (embeddings, last_positions, total_length), logits, slice(batch))
        return _Bound(binding, embeddings, last_positions, total_length, logits)

    def _bind(
        self,
        binding: onnxruntime.IOBinding,
        inputs: tuple[np.ndarray, np.ndarray, np.ndarray],
        logits: np.ndarray,
        rows: slice,
    ) -> None:
        names = ("inputs_embeds", "seqlens_k", "total_sequence_length")
        for name, array in zip(names, inputs, strict=True):
            _bind_input(binding, name, np.ascontiguousarray(array))
        _bind_output(binding, "logits", logits)
        for name, buffer in self._cache.items():
            _bind_input(binding, name, buffer[rows])
            _bind_output(binding, name.replace("past_", "present_"), buffer[rows])


def _load(folder: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores from the other steps between two tokens.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(folder / MODEL_FILE, options, providers=["CPUExecutionProvider"])


def _reserve(shape: tuple[int, ...]) -> mmap.mmap:
    """Zeroed memory for float32 of this shape; private, because shared memory keeps its pages."""
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # as NumPy asks for its own large arrays; not every kernel has them
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _bind_input(binding: onnxruntime.IOBinding, name: str, array: np.ndarray) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: onnxruntime.IOBinding, name: str, array: np.ndarray) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
