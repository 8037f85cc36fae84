"""Round-to-nearest int4 weights in the layout of ONNX Runtime's MatMulNBits."""

import numpy as np

from build_engines.weight_block import block_size

# Of the scale that keeps a block's largest weight. A smaller one clips that weight and rounds the others finer.
SHRINKS = (1.0, 0.92, 0.84)
ROWS = 2048  # quantised at a time; bounds the temporary memory for a 150 000-row output layer


def quantize_int4(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise float32 [outputs, inputs] → quants uint8 [outputs, blocks, block / 2], scales [outputs * blocks].

    Symmetric: weight ≈ scale * (quant - 8), two quants per byte, the even one in the low half. The scale may be
    negative, so that the weight of largest magnitude lies at -8, the longer end of the range. Of the scales in SHRINKS
    each block has the one with the least squared error. Inputs are zero-padded to whole blocks.
    """
    outputs, inputs = matrix.shape
    block = block_size(inputs)
    blocks = -(-inputs // block)
    quants = np.empty((outputs, blocks, block // 2), np.uint8)
    scales = np.empty((outputs, blocks), np.float32)
    for start in range(0, outputs, ROWS):
        rows = slice(start, start + ROWS)
        padded = np.pad(matrix[rows], ((0, 0), (0, blocks * block - inputs))).reshape(-1, blocks, block)
        steps, scales[rows] = _nearest(padded)
        levels = (steps + 8).astype(np.uint8)
        quants[rows] = levels[..., ::2] | levels[..., 1::2] << 4
    return quants, scales.reshape(-1)


def _nearest(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps -8 … 7 [rows, blocks, block] and scales [rows, blocks] of float32 [rows, blocks, block]."""
    largest = np.take_along_axis(weights, np.abs(weights).argmax(-1, keepdims=True), -1)
    best, best_scale = np.zeros_like(weights), np.zeros_like(largest)
    least = np.full_like(largest, np.inf)
    for shrink in SHRINKS:
        scale = largest * np.float32(shrink / -8)
        steps = np.divide(weights, scale, out=np.zeros_like(weights), where=scale != 0)
        np.clip(np.rint(steps, out=steps), -8, 7, out=steps)
        error = np.square(steps * scale - weights).sum(-1, keepdims=True)
        better = error < least
        np.copyto(best, steps, where=better)
        np.copyto(best_scale, scale, where=better)
        np.copyto(least, error, where=better)
    return best, best_scale[..., 0]


def dequantize_int4(quants: np.ndarray, scales: np.ndarray, inputs: int) -> np.ndarray:
    """Return the float32 [outputs, inputs] that a quantised matrix represents."""
    outputs, blocks, half = quants.shape
    matrix = np.empty((outputs, inputs), np.float32)
    for start in range(0, outputs, ROWS):
        rows = slice(start, start + ROWS)
        levels = np.stack([quants[rows] & 15, quants[rows] >> 4], axis=-1).reshape(-1, blocks, 2 * half)
        weights = (levels.astype(np.float32) - 8) * scales.reshape(outputs, blocks, 1)[rows]
        matrix[rows] = weights.reshape(-1, blocks * 2 * half)[:, :inputs]
    return matrix
