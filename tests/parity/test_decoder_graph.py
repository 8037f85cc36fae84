"""The decoder graph computes Qwen2: prompts in chunks, ragged rows together, in place in one cache."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from af3.llm.decoder import Decoder
from build_engines.llm import verify_decoder
from build_engines.source.checkpoint import open_checkpoint
from build_engines.stage import BuildError
from tests.support.engines import BuiltEngines
from tests.support.oracle import Oracle

ROWS = 4
ROW_TOKENS = 512
PROMPT_TOKENS = (300, 5, 77, 1)
STEPS = 24


@pytest.fixture
def decoder(engines: BuiltEngines) -> Decoder:
    """A decoder whose cache holds no number: whatever is read before it is written shows."""
    decoder = Decoder(engines.engines / "llm", ROWS, ROW_TOKENS, threads=1)
    for buffer in decoder._cache.values():
        buffer.fill(np.nan)
    return decoder


@pytest.fixture(scope="session")
def prompts() -> list[np.ndarray]:
    draw = np.random.default_rng(5)
    return [draw.integers(0, 390, tokens) for tokens in PROMPT_TOKENS]


def greedy(decoder: Decoder, prompts: Sequence[np.ndarray], chunk: int) -> np.ndarray:
    """Logits float32 [rows, STEPS, V] of greedy answers, the rows decoded together."""
    logits = np.empty((len(prompts), STEPS, decoder.vocab_size), np.float32)
    for row, prompt in enumerate(prompts):
        for start in range(0, len(prompt), chunk):
            part = decoder.embed(prompt[start : start + chunk], None)
            logits[row, 0] = decoder.prefill(row, part, start)
    lengths = np.array([len(prompt) for prompt in prompts])
    for step in range(1, STEPS):
        logits[:, step] = decoder.decode(logits[:, step - 1].argmax(-1), lengths + step - 1)
    return logits


@torch.inference_mode()
def reference(oracle: Oracle, prompt: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Transformers' own greedy answer: ids [STEPS] and logits [STEPS, V]."""
    ids = torch.from_numpy(prompt)[None]
    answer = oracle.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=STEPS,
        eos_token_id=10_000,  # beyond the vocabulary: no answer ends early
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert answer.logits is not None
    return answer.sequences[0, len(prompt) :].tolist(), torch.cat(answer.logits).numpy()


@pytest.mark.parametrize("chunk", [1, 64, 512], ids=lambda chunk: f"chunks of {chunk}")
def test_greedy_answers_are_those_of_transformers(
    decoder: Decoder, oracle: Oracle, prompts: list[np.ndarray], chunk: int
) -> None:
    logits = greedy(decoder, prompts, chunk)
    errors = []
    for row, prompt in enumerate(prompts):
        ids, expected = reference(oracle, prompt)
        assert logits[row].argmax(-1).tolist() == ids
        errors.append(np.linalg.norm(logits[row] - expected) / np.linalg.norm(expected))
    print(f"relative error of logits: {max(errors):.2e}")
    assert max(errors) <= verify_decoder.ERROR_BOUND["fp32"]


def test_a_row_that_is_moved_goes_on_as_before(decoder: Decoder, prompts: list[np.ndarray]) -> None:
    stayed = greedy(decoder, prompts[:1], chunk=64)[0]
    logits = decoder.prefill(3, decoder.embed(prompts[0], None), 0)
    decoder.move(3, 0, len(prompts[0]))
    for step in range(1, STEPS):
        logits = decoder.decode(logits.argmax(-1, keepdims=True), np.array([len(prompts[0]) + step - 1]))[0]
    np.testing.assert_allclose(logits, stayed[-1], rtol=1e-4, atol=1e-4)


def test_the_cache_is_written_in_place_and_only_where_tokens_are(
    decoder: Decoder, prompts: list[np.ndarray]
) -> None:
    decoder.prefill(1, decoder.embed(prompts[2], None), 0)
    for buffer in decoder._cache.values():
        written = ~np.isnan(buffer).any(axis=(1, 3))
        assert written[1].sum() == len(prompts[2])
        assert written[1, : len(prompts[2])].all()
        assert not written[[0, 2, 3]].any()


def test_ten_minutes_of_audio_are_exact_to_their_end(engines: BuiltEngines, oracle: Oracle) -> None:
    prompt = np.random.default_rng(6).integers(0, 390, 15_100)
    decoder = Decoder(engines.engines / "llm", 1, 15_200, threads=1)
    for start in range(0, len(prompt), 1024):
        logits = decoder.prefill(0, decoder.embed(prompt[start : start + 1024], None), start)
    with torch.inference_mode():
        expected = oracle.model(torch.from_numpy(prompt)[None], logits_to_keep=1).logits[0, 0].numpy()
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    print(f"relative error of logits after {len(prompt)} tokens: {error:.2e}")
    assert error <= verify_decoder.ERROR_BOUND["fp32"]


def test_int4_weights_give_the_logits_of_the_same_weights_in_fp32(int4_engines: BuiltEngines) -> None:
    source = open_checkpoint(str(int4_engines.checkpoint))
    figures = verify_decoder.verify(source, "int4", int4_engines.engines / "llm")
    assert figures["relative_error"] <= verify_decoder.ERROR_BOUND["int4"]
    assert figures["relative_error_to_checkpoint"] > figures["relative_error"]


def test_a_decoder_with_one_wrong_weight_is_not_accepted(engines: BuiltEngines, tmp_path: Path) -> None:
    for source in files(engines.engines / "llm"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    data = bytearray((tmp_path / "decoder.onnx.data").read_bytes())
    data[-100_000:-96_000] = bytes(4000)  # in the output layer, which is written last
    (tmp_path / "decoder.onnx.data").write_bytes(data)
    with pytest.raises(BuildError, match=r"relative error of logits is .*, above its bound"):
        verify_decoder.verify(open_checkpoint(str(engines.checkpoint)), "fp32", tmp_path)


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file())
