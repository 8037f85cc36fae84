"""The decoder stage: writes graph and embedding table and verifies them against Transformers."""

from pathlib import Path

from build_engines.llm.decoder_graph import Precision, write_decoder, write_embeddings
from build_engines.llm.verify_decoder import verify
from build_engines.source.checkpoint import Checkpoint
from build_engines.stage import Figures


def build(checkpoint: Checkpoint, precision: Precision, folder: Path) -> Figures:
    """Write `decoder.onnx`, `decoder.onnx.data` and `embeddings.npy` into `folder` and verify them."""
    write_embeddings(checkpoint, folder)
    write_decoder(checkpoint, precision, folder)
    return verify(checkpoint, precision, folder)
