"""The tokenizer of af3-tiny and facts that fit it: what unit tests need of a checkpoint, without torch."""

from pathlib import Path

from af3.manifest import CheckpointIdentity, Limits, Manifest, ModelFacts, Precision
from af3.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[2] / "checkpoints" / "af3-tiny"
TOKENIZER = Tokenizer.load(FOLDER)
VOCABULARY = 1 + max(TOKENIZER.control_ids)
END_OF_TURN = TOKENIZER.token_id("<|im_end|>")
END_OF_TEXT = TOKENIZER.token_id("<|endoftext|>")

MODEL = ModelFacts(
    hidden_size=4,
    vocab_size=VOCABULARY,
    layers=1,
    kv_heads=1,
    head_dim=4,
    audio_token_id=TOKENIZER.token_id("<sound>"),
    clip_begin_ids=(),
    clip_end_ids=(),
    rotates_by_time=False,
    im_start_id=TOKENIZER.token_id("<|im_start|>"),
    im_end_id=END_OF_TURN,
    stop_token_ids=(END_OF_TURN, END_OF_TEXT),
    pad_token_id=END_OF_TEXT,
    default_system_prompt="You are a helpful assistant.",
)
LIMITS = Limits(
    max_windows_per_clip=20,
    max_audio_tokens=1500,
    max_text_tokens=400,
    max_output_tokens=1024,
    max_sequence_tokens=2000,
    max_batch_size=4,
)


def manifest(**changes: object) -> Manifest:
    whole = Manifest(
        target="cpu",
        checkpoint=CheckpointIdentity(name="tiny", sha256="0" * 64),
        precision=Precision(audio_encoder="fp32", llm="fp32"),
        limits=LIMITS,
        model=MODEL,
        tools={},
        files={},
        verification={},
    )
    return whole.model_copy(update=changes)
