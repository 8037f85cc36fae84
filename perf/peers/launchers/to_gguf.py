"""Runs in the environment of Transformers: `to_gguf.py SOURCE …`, llama.cpp's converter in the folder SOURCE.

The converter knows tokenizers by a hash, and ours are not on its list. They split text as Qwen2's does. It does not
know `--outtype q4_0` either, which it leaves to a program that no package carries; its library can write it.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any


def main() -> None:
    source = sys.argv[1]
    sys.path[:0] = [source, f"{source}/gguf-py"]
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    sys.argv = [f"{source}/convert_hf_to_gguf.py", *sys.argv[2:]]
    if "q4_0" in sys.argv:
        sys.argv[sys.argv.index("q4_0")] = "q8_0"
        _write_q4_for_q8()
    runpy.run_path(sys.argv[0], run_name="__main__")


def _write_q4_for_q8() -> None:
    import gguf
    import numpy as np

    q8, q4 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0
    quantize, add_tensor = gguf.quants.quantize, gguf.GGUFWriter.add_tensor
    shape_of = gguf.quant_shape_from_byte_shape

    def quantized(data: Any, kind: Any) -> Any:
        return quantize(np.asarray(data, np.float32), q4 if kind == q8 else kind)

    def added(
        self: Any, name: str, tensor: Any, raw_shape: Any = None, raw_dtype: Any = None, **more: Any
    ) -> None:
        add_tensor(self, name, tensor, raw_shape, q4 if raw_dtype == q8 else raw_dtype, **more)

    gguf.quants.quantize = quantized
    gguf.quant_shape_from_byte_shape = lambda shape, kind: shape_of(shape, q4 if kind == q8 else kind)
    gguf.GGUFWriter.add_tensor = added


if __name__ == "__main__":
    main()
