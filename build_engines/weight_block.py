"""How many weights of a quantised matrix share a scale."""

# 128, as in AWQ and GPTQ, where that fills whole blocks. With 32 a token of an int4 LLM takes a third longer on two
# cores: 160 bytes are read for 256 weights instead of 136, and ONNX Runtime has more blocks to add up. An int8 encoder
# takes a third longer too.
SIZES = (128, 64, 32)


def block_size(inputs: int) -> int:
    """The largest that divides the matrix's inputs; the smallest if none does."""
    return next((size for size in SIZES if inputs % size == 0), SIZES[-1])
