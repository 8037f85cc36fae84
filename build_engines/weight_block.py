"""Which weights of a CPU's engines are quantised, and how many of a matrix share a scale."""

from typing import Literal

EncoderPrecision = Literal["fp32", "int8"]

# 128, as in AWQ and GPTQ, where that fills whole blocks. With 32 a token of an int4 LLM takes a third longer on two
# cores: 160 bytes are read for 256 weights instead of 136, and ONNX Runtime has more blocks to add up. An int8 encoder
# takes a third longer too.
SIZES = (128, 64, 32)


def block_size(inputs: int) -> int:
    """The largest that divides the matrix's inputs; the smallest if none does."""
    return next((size for size in SIZES if inputs % size == 0), SIZES[-1])


def encoder_precision(llm: str) -> EncoderPrecision:
    """Of the encoder beside an LLM of that precision: who rounds the LLM to four bits wants it small and fast."""
    return "int8" if llm == "int4" else "fp32"
