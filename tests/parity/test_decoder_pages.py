"""A row of the KV cache costs what it holds: the pages of a long sequence go back when its row is freed."""

from pathlib import Path

import numpy as np
import pytest

from af3.llm import decoder as decoder_module
from af3.llm.decoder import Decoder
from tests.support.engines import BuiltEngines

ROWS, ROW_TOKENS, LONG = 3, 32_768, 32_000  # rows of several huge pages


@pytest.fixture
def decoder(engines: BuiltEngines, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    monkeypatch.setattr(decoder_module, "KEPT_BYTES", 1 << 20)
    return Decoder(engines.engines / "llm", ROWS, ROW_TOKENS, threads=1)


def resident(decoder: Decoder) -> int:
    """Bytes of the KV cache that the operating system has allocated."""
    addresses = [buffer.ctypes.data for buffer in decoder._cache.values()]
    found: dict[int, int] = {}
    start = -1
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            start = low if any(low <= address < high for address in addresses) else -1
        elif line.startswith("Rss:") and start >= 0:
            found[start] = int(line.split()[1]) << 10
    return sum(found.values())


def write(decoder: Decoder, row: int, tokens: int) -> np.ndarray:
    """Keys and values of so many tokens into a row, without the model."""
    shape = decoder.saved(row, 0, tokens).shape
    held = np.random.default_rng(row).standard_normal(shape, np.float32)
    decoder.restore(row, 0, held)
    return held


def row_bytes(decoder: Decoder) -> int:
    return sum(buffer[0].nbytes for buffer in decoder._cache.values())


def test_a_long_row_gives_its_pages_back_and_its_neighbours_keep_theirs(decoder: Decoder) -> None:
    before = resident(decoder)
    held = [write(decoder, row, LONG) for row in range(ROWS)]
    full = resident(decoder)
    assert full - before > 2.9 * row_bytes(decoder) * LONG / ROW_TOKENS
    decoder.free(1)
    assert full - resident(decoder) > 0.9 * row_bytes(decoder)
    for row in (0, 2):
        assert (decoder.saved(row, 0, LONG) == held[row]).all()


def test_a_short_sequence_that_moves_into_a_long_row_keeps_none_of_its_pages(decoder: Decoder) -> None:
    write(decoder, 0, LONG)
    held = write(decoder, 1, 100)
    before = resident(decoder)
    decoder.move(1, 0, 100)
    assert before - resident(decoder) > 0.7 * row_bytes(decoder)
    assert (decoder.saved(0, 0, 100) == held).all()


def test_a_short_row_keeps_its_pages_for_the_next(decoder: Decoder) -> None:
    held = write(decoder, 0, 100)
    decoder.free(0)
    assert (decoder.saved(0, 0, 100) == held).all()


def test_what_was_given_back_is_written_again_as_ever(decoder: Decoder) -> None:
    prompt = np.random.default_rng(3).integers(0, 390, 700).astype(np.int32)
    embedded = decoder.embed(prompt, None)
    first = decoder.prefill(0, embedded, 0).copy()
    write(decoder, 0, LONG)
    decoder.free(0)
    assert (decoder.prefill(0, embedded, 0) == first).all()
