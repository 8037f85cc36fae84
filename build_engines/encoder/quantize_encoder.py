"""int8 weights for the encoder's matrix products, in the layout of ONNX Runtime's MatMulNBits.

A block of weights of one output shares a scale, and so does a block of each row of activations, so that one loud
channel costs few others their precision. ONNX Runtime multiplies them in int8. Convolutions and attention stay in fp32.
"""

from __future__ import annotations

import logging
from pathlib import Path

from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from build_engines.weight_block import block_size

BITS = 8
IN_INT8 = 4  # MatMulNBits' "accuracy_level": activations are rounded to int8 too


def quantize(model: Path, width: int) -> None:
    """Replace `model`, an ONNX file with its weights in `<model>.data`, by its int8 version.

    width: of the encoder's layers.
    """
    logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        str(model), bits=BITS, block_size=block_size(width), is_symmetric=True, accuracy_level=IN_INT8
    )
    quantizer.process()
    for file in (model, model.with_name(f"{model.name}.data")):
        file.unlink()
    quantizer.model.save_model_to_file(str(model), use_external_data_format=True)
