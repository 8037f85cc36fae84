"""A small random Kokoro: the inputs, the output and the kinds of nodes of the published int8 graph, at 60 kB.

Each phoneme sounds for 75 ms at rate 1; the style colours the sound, so no two voices are alike.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOICES = ("af_heart", "af_sky", "am_adam", "bf_emma", "jf_alpha")  # the last speaks no language of ours
WIDTH, HOP, HZ = 16, 300, 24000
SYMBOLS = ';:,.!?—…"() ^AIOQSTWYabcdefhijklmnopstuvwxzæðŋɑɔəɛɜɡɪɹɾʃʊʌʒʤʧθˈˌᵊᵻɒː'


def save_kokoro(folder: Path, tokens_input: str = "tokens") -> Path:
    """A folder as `VOICE=FOLDER` takes it."""
    generator = np.random.default_rng(0)
    (folder / "voices").mkdir(parents=True)
    for name in VOICES:
        generator.normal(0, 1, (510, 256)).astype(np.float32).tofile(folder / "voices" / f"{name}.bin")
    vocabulary = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
    (folder / "vocab.json").write_text(
        json.dumps({"vocab": vocabulary}, ensure_ascii=False), encoding="utf-8"
    )
    onnx.save(_graph(generator, tokens_input), folder / "model.onnx")
    return folder


def _graph(generator: np.random.Generator, tokens: str) -> onnx.ModelProto:
    """Embedding → frames → two integer convolutions with the style between them → a wave of tones."""

    def weight(*shape: int) -> np.ndarray:
        return generator.integers(0, 256, shape).astype(np.uint8)

    values = {
        "table": generator.normal(0, 1, (len(SYMBOLS) + 1, WIDTH)).astype(np.float32),
        "one": np.ones(1, np.float32),
        "two": np.full(1, 2, np.float32),
        "frames": np.full(1, 6, np.float32),
        "w1": weight(WIDTH, WIDTH, 7),
        "w2": weight(WIDTH, WIDTH, 3),
        "w3": generator.integers(-128, 128, (WIDTH, WIDTH)).astype(np.int8),
        "zero1": np.uint8(131),
        "zero2": np.uint8(117),
        "zero3": np.int8(0),
        "scale": np.float32(0.002),
        "from": np.array([0], np.int64),
        "to": np.array([WIDTH], np.int64),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "flat": np.array([-1], np.int64),
        "up": _tones(),
    }
    nodes = [
        helper.make_node("Gather", ["table", tokens], ["embedded"]),
        *_integer("MatMulInteger", "embedded", "w3", "zero3", "mixed"),
        helper.make_node("Transpose", ["mixed"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Div", ["frames", "speed"], ["repeats"]),
        helper.make_node("Concat", ["one", "one", "repeats"], ["scales"], axis=0),
        helper.make_node("Resize", ["channels", "", "scales"], ["spread"], mode="nearest"),
        *_integer("ConvInteger", "spread", "w1", "zero1", "first", pads=[9, 9], dilations=[3]),
        helper.make_node("Slice", ["style", "from", "to", "axis1"], ["part"]),
        helper.make_node("Unsqueeze", ["part", "axis2"], ["colour"]),
        helper.make_node("Add", ["first", "colour"], ["coloured"]),
        helper.make_node("Pow", ["coloured", "two"], ["squared"]),
        helper.make_node("Sub", ["squared", "one"], ["centred"]),
        *_integer("ConvInteger", "centred", "w2", "zero2", "second", pads=[1, 1]),
        helper.make_node("Tanh", ["second"], ["bounded"]),
        helper.make_node("ConvTranspose", ["bounded", "up"], ["wave"], strides=[HOP]),
        helper.make_node("Reshape", ["wave", "flat"], ["audio"]),
    ]
    graph = helper.make_graph(
        nodes,
        "kokoro",
        [
            helper.make_tensor_value_info(tokens, TensorProto.INT64, [1, "n"]),
            helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _tones() -> np.ndarray:
    """[WIDTH, 1, HOP]: each channel is a tone of a whole number of waves a frame, so frames join without a click."""
    turns = 2 * np.pi * np.arange(HOP) / HOP
    return np.stack([0.05 * np.sin((2 + channel) * turns) for channel in range(WIDTH)])[:, None].astype(
        np.float32
    )


def _integer(
    kind: str, source: str, weight: str, zero: str, output: str, **attributes: list[int]
) -> list[onnx.NodeProto]:
    """Writes a convolution or a product as ONNX Runtime's dynamic quantisation does."""
    quantised, scale, point = (f"{output}_{part}" for part in ("quantised", "scale", "point"))
    return [
        helper.make_node("DynamicQuantizeLinear", [source], [quantised, scale, point]),
        helper.make_node(kind, [quantised, weight, point, zero], [f"{output}_sums"], **attributes),
        helper.make_node("Cast", [f"{output}_sums"], [f"{output}_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [scale, "scale"], [f"{output}_scales"]),
        helper.make_node("Mul", [f"{output}_floats", f"{output}_scales"], [output]),
    ]
