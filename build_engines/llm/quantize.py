"""Round-to-nearest int4 weights in the layout of ONNX Runtime's MatMulNBits."""

import numpy as np

BLOCK = 32  # weights that share a scale
ROWS = 2048  # quantised at a time; bounds the temporary memory for a 150 000-row output layer


def quantize_int4(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise float32 [outputs, inputs] → quants uint8 [outputs, blocks, BLOCK / 2], scales [outputs * blocks].

    Symmetric: weight ≈ scale * (quant - 8), two quants per byte, the even one in the low half. The scale may be
    negative, so that the weight of largest magnitude maps to -8, the longer end of the range. Inputs are zero-padded to
    whole blocks.
    """
    outputs, inputs = matrix.shape
    blocks = -(-inputs // BLOCK)
    quants = np.empty((outputs, blocks, BLOCK // 2), np.uint8)
    scales = np.empty((outputs, blocks), np.float32)
    for start in range(0, outputs, ROWS):
        rows = slice(start, start + ROWS)
        padded = np.pad(matrix[rows], ((0, 0), (0, blocks * BLOCK - inputs))).reshape(-1, blocks, BLOCK)
        largest = np.take_along_axis(padded, np.abs(padded).argmax(-1, keepdims=True), -1)
        scale = largest / -8
        steps = np.divide(padded, scale, out=np.zeros_like(padded), where=scale != 0)
        levels = (np.clip(np.rint(steps), -8, 7) + 8).astype(np.uint8)
        quants[rows] = levels[..., ::2] | levels[..., 1::2] << 4
        scales[rows] = scale[..., 0]
    return quants, scales.reshape(-1)


def dequantize_int4(quants: np.ndarray, scales: np.ndarray, inputs: int) -> np.ndarray:
    """Return the float32 [outputs, inputs] that a quantised matrix represents."""
    outputs, blocks, _ = quants.shape
    matrix = np.empty((outputs, inputs), np.float32)
    for start in range(0, outputs, ROWS):
        rows = slice(start, start + ROWS)
        levels = np.stack([quants[rows] & 15, quants[rows] >> 4], axis=-1).reshape(-1, blocks, BLOCK)
        weights = (levels.astype(np.float32) - 8) * scales.reshape(outputs, blocks, 1)[rows]
        matrix[rows] = weights.reshape(-1, blocks * BLOCK)[:, :inputs]
    return matrix
